//! Who asks: the token of a sidecar's ServiceAccount, bound to its pod and node, checked by TokenReview. A review is believed
//! for a few seconds; whether the pod is still there is looked up every time.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use axum::http::HeaderMap;
use axum::http::header::AUTHORIZATION;
use k8s_openapi::api::authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus};
use kube::Api;
use kube::api::PostParams;
use operator_api::AUDIENCE;
use sha2::{Digest, Sha256};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::ApiFailure;
use crate::context::Context;
use crate::index::{Index, ObjectId};

/// How long a review is believed, good or bad.
const BELIEVED: Duration = Duration::from_secs(10);
/// The most reviews that are kept.
const KEPT: usize = 10_000;
/// The most reviews that are asked for at a time.
const AT_A_TIME: usize = 16;
/// One review takes at most so long.
const TIMEOUT: Duration = Duration::from_secs(10);

const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";
const NODE_NAME: &str = "authentication.kubernetes.io/node-name";

/// A sidecar that is who it says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// Its node.
    pub node: String,
    /// The class that it serves.
    pub class: String,
}

/// Whom the API server takes a token for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    username: String,
    pod: String,
    pod_uid: String,
    node: Option<String>,
}

/// Reads a review. The audience has to be ours: a token that was made for someone else must not open anything here.
pub fn identify(review: &TokenReviewStatus) -> Result<Identity, ApiFailure> {
    let refuse = |why: &str| ApiFailure::unauthenticated(format!("the token is refused: {why}"));
    if review.authenticated != Some(true) {
        return Err(refuse("the API server does not know it"));
    }
    if !review
        .audiences
        .as_ref()
        .is_some_and(|audiences| audiences.iter().any(|audience| audience == AUDIENCE))
    {
        return Err(refuse("it is not made for the audience samara.dev"));
    }
    let user = review.user.clone().unwrap_or_default();
    let extra = user.extra.unwrap_or_default();
    let one = |key: &str| match extra.get(key).map(Vec::as_slice) {
        Some([one]) => Some(one.clone()),
        _ => None,
    };
    let (Some(pod), Some(pod_uid)) = (one(POD_NAME), one(POD_UID)) else {
        return Err(refuse("it is not bound to a pod"));
    };
    Ok(Identity { username: user.username.unwrap_or_default(), pod, pod_uid, node: one(NODE_NAME) })
}

/// Lets in the sidecars that this operator knows: right account, and the very pod, on the very node.
pub fn admit(
    identity: &Identity,
    namespace: &str,
    account: &str,
    index: &Index,
) -> Result<Caller, ApiFailure> {
    if identity.username != format!("system:serviceaccount:{namespace}:{account}") {
        return Err(ApiFailure::forbidden("only sidecars are served here"));
    }
    let id = ObjectId { namespace: namespace.to_owned(), name: identity.pod.clone() };
    let known = index.sidecars.by_id(&id).filter(|pod| pod.uid == identity.pod_uid && !pod.leaving);
    let Some(pod) = known else {
        return Err(ApiFailure::forbidden(
            "this pod is not, or no longer, a sidecar that the operator knows; ask again",
        ));
    };
    if identity.node.as_ref().is_some_and(|node| *node != pod.node) {
        return Err(ApiFailure::forbidden("the token is bound to another node than its pod"));
    }
    Ok(Caller { node: pod.node.clone(), class: pod.class.clone() })
}

type Reviewed = (Instant, Result<Identity, ApiFailure>);

/// Reviews of the last seconds, by the digest of the token.
#[derive(Debug)]
pub struct Reviews {
    kept: Mutex<HashMap<[u8; 32], Reviewed>>,
    slots: Semaphore,
}

impl Default for Reviews {
    fn default() -> Self {
        Self { kept: Mutex::default(), slots: Semaphore::new(AT_A_TIME) }
    }
}

impl Reviews {
    /// Who sent these headers.
    pub async fn caller(&self, context: &Context, headers: &HeaderMap) -> Result<Caller, ApiFailure> {
        let token = bearer(headers)
            .ok_or_else(|| ApiFailure::unauthenticated("show a token: Authorization: Bearer <token>"))?;
        let key: [u8; 32] = Sha256::digest(token).into();
        let identity = if let Some(identity) = self.kept(&key) {
            identity
        } else {
            let identity = self.review(context, token).await?;
            self.keep(key, identity.clone());
            identity
        }?;
        let settings = &context.settings;
        admit(&identity, &settings.namespace, &settings.sidecar_service_account, &context.index())
    }

    fn kept(&self, key: &[u8; 32]) -> Option<Result<Identity, ApiFailure>> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(key).filter(|(at, _)| at.elapsed() < BELIEVED).map(|(_, identity)| identity.clone())
    }

    fn keep(&self, key: [u8; 32], identity: Result<Identity, ApiFailure>) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT {
            kept.retain(|_, (at, _)| at.elapsed() < BELIEVED);
        }
        if kept.len() < KEPT {
            kept.insert(key, (Instant::now(), identity));
        }
    }

    /// Asks the API server. That it cannot be asked is not the token's fault, and is not kept.
    async fn review(
        &self,
        context: &Context,
        token: &str,
    ) -> Result<Result<Identity, ApiFailure>, ApiFailure> {
        let unavailable = || ApiFailure::unavailable("the token cannot be checked now; ask again");
        let _slot = self.slots.acquire().await.map_err(|_| unavailable())?;
        let review = TokenReview {
            spec: TokenReviewSpec {
                token: Some(token.to_owned()),
                audiences: Some(vec![AUDIENCE.to_owned()]),
            },
            ..TokenReview::default()
        };
        let api: Api<TokenReview> = Api::all(context.client.clone());
        match tokio::time::timeout(TIMEOUT, api.create(&PostParams::default(), &review)).await {
            Ok(Ok(review)) => Ok(identify(&review.status.unwrap_or_default())),
            Ok(Err(error)) => {
                tracing::warn!(%error, "a token cannot be reviewed");
                Err(unavailable())
            }
            Err(_) => Err(unavailable()),
        }
    }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("Bearer") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use k8s_openapi::api::authentication::v1::UserInfo;

    use super::*;
    use crate::index::SidecarPod;

    fn review(audiences: &[&str], extra: &[(&str, &str)]) -> TokenReviewStatus {
        let extra: BTreeMap<_, _> =
            extra.iter().map(|(k, v)| ((*k).to_owned(), vec![(*v).to_owned()])).collect();
        TokenReviewStatus {
            authenticated: Some(true),
            audiences: Some(audiences.iter().map(|a| (*a).to_owned()).collect()),
            user: Some(UserInfo {
                username: Some("system:serviceaccount:ns:samara-sidecar".into()),
                extra: Some(extra),
                ..UserInfo::default()
            }),
            error: None,
        }
    }

    fn index() -> Index {
        let mut index = Index::default();
        let pod = SidecarPod {
            name: "sidecar-a".into(),
            uid: "uid-a".into(),
            node: "a".into(),
            class: "default".into(),
            ..SidecarPod::default()
        };
        index.apply(&ObjectId { namespace: "ns".into(), name: "sidecar-a".into() }, pod);
        index
    }

    const GOOD: &[(&str, &str)] = &[(POD_NAME, "sidecar-a"), (POD_UID, "uid-a"), (NODE_NAME, "a")];

    #[test]
    fn the_right_pod_is_let_in() {
        let identity = identify(&review(&["samara.dev"], GOOD)).unwrap();
        let caller = admit(&identity, "ns", "samara-sidecar", &index()).unwrap();
        assert_eq!(caller, Caller { node: "a".into(), class: "default".into() });
    }

    #[test]
    fn tokens_for_others_are_401() {
        let mut unknown = review(&["samara.dev"], GOOD);
        unknown.authenticated = Some(false);
        for review in [
            unknown,
            review(&["https://kubernetes.default.svc"], GOOD),
            review(&[], GOOD),
            review(&["samara.dev"], &[(NODE_NAME, "a")]),
            TokenReviewStatus::default(),
        ] {
            assert_eq!(identify(&review).unwrap_err().status, 401, "{review:?}");
        }
    }

    #[test]
    fn others_than_known_sidecars_are_403() {
        let status = |extra: &[(&str, &str)], namespace: &str, account: &str| {
            let identity = identify(&review(&["samara.dev"], extra)).unwrap();
            admit(&identity, namespace, account, &index()).unwrap_err().status
        };
        let account = "samara-sidecar";
        assert_eq!(status(GOOD, "ns", "other"), 403);
        assert_eq!(status(GOOD, "elsewhere", account), 403);
        assert_eq!(
            status(&[(POD_NAME, "sidecar-a"), (POD_UID, "uid-old"), (NODE_NAME, "a")], "ns", account),
            403
        );
        assert_eq!(
            status(&[(POD_NAME, "sidecar-b"), (POD_UID, "uid-a"), (NODE_NAME, "a")], "ns", account),
            403
        );
        assert_eq!(
            status(&[(POD_NAME, "sidecar-a"), (POD_UID, "uid-a"), (NODE_NAME, "b")], "ns", account),
            403
        );
        let mut leaving = index();
        let id = ObjectId { namespace: "ns".into(), name: "sidecar-a".into() };
        let pod = SidecarPod { leaving: true, ..SidecarPod::clone(leaving.sidecars.by_id(&id).unwrap()) };
        leaving.apply(&id, pod);
        let identity = identify(&review(&["samara.dev"], GOOD)).unwrap();
        assert_eq!(admit(&identity, "ns", account, &leaving).unwrap_err().status, 403);
    }

    #[test]
    fn a_bearer_token_is_read_and_nothing_else() {
        let headers = |value: &str| HeaderMap::from_iter([(AUTHORIZATION, value.parse().unwrap())]);
        assert_eq!(bearer(&headers("Bearer abc")), Some("abc"));
        assert_eq!(bearer(&headers("bearer  abc ")), Some("abc"));
        assert_eq!(bearer(&headers("Basic abc")), None);
        assert_eq!(bearer(&headers("Bearer ")), None);
        assert_eq!(bearer(&HeaderMap::new()), None);
    }
}

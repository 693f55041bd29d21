//! The registry of an image, opened with what the `Distribution`'s pull secrets hold. Secrets are read when they are needed and kept
//! nowhere.

use crds::{Distribution, DistributionClass, RevisionImage};
use k8s_openapi::api::core::v1::Secret;
use kube::{Api, ResourceExt};
use operator_api::reason;
use origin::registry::{Digest, Keyring, KeyringError, Login, Opened, Reference, Registry, RegistryOptions};
use origin::{HostRules, Options, PolicyError};

use super::source::{bad_rules, policy};
use crate::context::Context;
use crate::resolve::ResolveError;

/// The registry that this reference names, for the image as it stands there, or for this digest of it. Of what the pull secrets hold it
/// gets what is for that registry.
pub async fn of(
    context: &Context,
    class: &DistributionClass,
    distribution: &Distribution,
    reference: &str,
    pinned: Option<&str>,
) -> Result<(Reference, Registry), ResolveError> {
    let reference = Reference::parse(reference).map_err(origin::registry::RegistryError::from)?;
    let logins = keyring(context, distribution).await?.logins(&reference);
    let pinned = pinned.and_then(|pinned| Digest::parse(pinned).ok());
    let asked = pinned.map_or_else(|| reference.clone(), |digest| reference.at(digest));
    let registry = opened_by(context, class, asked, logins).map_err(|error| bad_rules(&error))?;
    Ok((reference, registry))
}

/// A registry that is shown no password.
pub fn anonymous(
    context: &Context,
    class: &DistributionClass,
    reference: &Reference,
) -> Result<Registry, PolicyError> {
    opened_by(context, class, reference.clone(), Vec::new())
}

fn opened_by(
    context: &Context,
    class: &DistributionClass,
    asked: Reference,
    logins: Vec<Login>,
) -> Result<Registry, PolicyError> {
    let client = Options { denied: context.settings.api_server.clone(), ..Options::default() };
    let plain_http = HostRules::new(&class.spec.origin.plain_http)?;
    Registry::new(asked, RegistryOptions { policy: policy(class), plain_http, logins, client })
}

/// What opens the repository of a revision's image for whoever is granted to read it; `None` if everyone may. The `Distribution`'s
/// source may be another by now, at another registry: that one is not asked, and none of its passwords is shown.
pub async fn open(
    context: &Context,
    class: &DistributionClass,
    distribution: &Distribution,
    image: &RevisionImage,
) -> Result<Option<Opened>, ResolveError> {
    let digest =
        Digest::parse(&image.digest).map_err(|why| ResolveError::refused(reason::INVALID_MANIFEST, why))?;
    let (_, registry) = of(context, class, distribution, &image.reference, None).await?;
    Ok(registry.open(&digest).await?)
}

async fn keyring(context: &Context, distribution: &Distribution) -> Result<Keyring, ResolveError> {
    let namespace = distribution.namespace().unwrap_or_default();
    let secrets: Api<Secret> = Api::namespaced(context.client.clone(), &namespace);
    let mut keyring = Keyring::default();
    let pull_secrets = distribution.spec.source.image.iter().flat_map(|image| &image.pull_secrets);
    for name in pull_secrets.map(|secret| &secret.name) {
        let refuse = |why: String| {
            ResolveError::refused(reason::SECRET_UNAVAILABLE, format!("Secret {namespace}/{name}: {why}"))
        };
        let secret = secrets.get(name).await.map_err(|error| refuse(why(&error, context, &namespace)))?;
        add(&mut keyring, &secret).map_err(|error| refuse(error.to_string()))?;
    }
    Ok(keyring)
}

/// What the API server says shows no more than names, but it is long and does not say what to do.
fn why(error: &kube::Error, context: &Context, namespace: &str) -> String {
    match error {
        kube::Error::Api(status) if status.code == 404 => {
            "it is not there: make it, or correct pullSecrets".to_owned()
        }
        kube::Error::Api(status) if status.code == 403 => format!(
            "the operator may not read it: kubectl -n {namespace} create rolebinding samara-pull-secrets \
             --clusterrole=samara-pull-secrets --serviceaccount={}:samara-operator",
            context.settings.namespace
        ),
        _ => "the API server does not give it now; it is tried again".to_owned(),
    }
}

fn add(keyring: &mut Keyring, secret: &Secret) -> Result<(), KeyringError> {
    let data =
        |key: &str| secret.data.as_ref().and_then(|data| data.get(key)).map(|bytes| bytes.0.as_slice());
    match secret.type_.as_deref() {
        Some("kubernetes.io/dockerconfigjson") => {
            keyring.add_config(data(".dockerconfigjson").ok_or(KeyringError("it has no .dockerconfigjson"))?)
        }
        Some("kubernetes.io/dockercfg") => {
            keyring.add_legacy(data(".dockercfg").ok_or(KeyringError("it has no .dockercfg"))?)
        }
        _ => Err(KeyringError(
            "its type is neither kubernetes.io/dockerconfigjson nor kubernetes.io/dockercfg",
        )),
    }
}

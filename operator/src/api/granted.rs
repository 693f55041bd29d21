//! A grant on its way out. Its list may have a million files, 200 MB as JSON: it is written a piece at a time from the list that
//! the ledger holds, and never copied.

use std::sync::Arc;

use axum::body::Body;
use bytes::Bytes;
use futures::stream;
use operator_api::{Authorization, GrantedFile, GrantedIngest, OriginPolicy, TorrentVersion};
use serde::Serialize;

/// So many files become one piece of the body.
const FILES_A_PIECE: usize = 1024;

/// An [`operator_api::Grant`] without its files.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Head {
    pub id: String,
    pub expires_in_seconds: u64,
    pub origin_policy: OriginPolicy,
    pub torrent_version: TorrentVersion,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub expected_digest: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bandwidth_per_second: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ingest: Option<GrantedIngest>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorization: Option<Authorization>,
}

/// An [`operator_api::Grant`].
#[derive(Debug)]
pub(super) struct Granted {
    pub head: Head,
    pub files: Arc<Vec<GrantedFile>>,
}

impl Granted {
    /// The body of the answer.
    pub fn into_body(self) -> serde_json::Result<Body> {
        Ok(Body::from_stream(stream::iter(self.pieces()?)))
    }

    /// `{"files":[...],` and then the rest.
    fn pieces(self) -> serde_json::Result<impl Iterator<Item = serde_json::Result<Bytes>>> {
        let Self { head, files } = self;
        let mut end = b"],".to_vec();
        end.extend(serde_json::to_vec(&head)?.into_iter().skip(1));
        let listed = (0..files.len()).step_by(FILES_A_PIECE).map(move |from| piece(&files, from));
        let begin = std::iter::once(Ok(Bytes::from_static(br#"{"files":["#)));
        Ok(begin.chain(listed).chain(std::iter::once(Ok(Bytes::from(end)))))
    }
}

fn piece(files: &[GrantedFile], from: usize) -> serde_json::Result<Bytes> {
    let mut piece = Vec::new();
    for (nth, file) in files.iter().enumerate().skip(from).take(FILES_A_PIECE) {
        if nth > 0 {
            piece.push(b',');
        }
        serde_json::to_writer(&mut piece, file)?;
    }
    Ok(piece.into())
}

#[cfg(test)]
mod tests {
    use operator_api::Grant;

    use super::*;

    #[test]
    fn what_a_sidecar_reads_is_the_grant() {
        for count in [0, 1, 2, FILES_A_PIECE, FILES_A_PIECE + 1] {
            let file = |nth: usize| GrantedFile {
                path: format!("{nth:06}"),
                url: format!("http://h/\"{nth}"),
                text: (nth == 1).then(|| "{\"a\": 1}".to_owned()),
                size: nth as u64,
                sha256: None,
                etag: Some("\"1\"".into()),
                last_modified: None,
            };
            let grant = Grant {
                id: "1".into(),
                expires_in_seconds: 30,
                files: (0..count).map(file).collect(),
                origin_policy: OriginPolicy { allow: vec!["a".into()], deny: Vec::new() },
                torrent_version: TorrentVersion::V2,
                expected_digest: Some("d".into()),
                bandwidth_per_second: Some(7),
                ingest: Some(GrantedIngest {
                    id: "i".into(),
                    epoch: 1,
                    key: "k".into(),
                    warrant: "w".into(),
                    index: 2,
                    of: 3,
                }),
                authorization: Some(Authorization { origin: "https://h".into(), value: "Bearer x".into() }),
            };
            let head = Head {
                id: grant.id.clone(),
                expires_in_seconds: grant.expires_in_seconds,
                origin_policy: grant.origin_policy.clone(),
                torrent_version: grant.torrent_version,
                expected_digest: grant.expected_digest.clone(),
                bandwidth_per_second: grant.bandwidth_per_second,
                ingest: grant.ingest.clone(),
                authorization: grant.authorization.clone(),
            };
            let granted = Granted { head, files: Arc::new(grant.files.clone()) };
            let body: Vec<u8> = granted.pieces().unwrap().flat_map(|piece| piece.unwrap()).collect();
            assert_eq!(serde_json::from_slice::<Grant>(&body).unwrap(), grant, "{count} files");
        }
    }
}

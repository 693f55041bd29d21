//! The connection to a container runtime over its Unix socket.

use std::path::{Path, PathBuf};
use std::time::Duration;

use http::uri::PathAndQuery;
use hyper_util::rt::TokioIo;
use prost::Message;
use tokio::net::UnixStream;
use tonic::client::Grpc;
use tonic::metadata::MetadataValue;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status, Streaming};
use tonic_prost::ProstCodec;

use crate::error::Error;

/// Everything of Kubernetes lies in this namespace of containerd's.
const NAMESPACE: &str = "k8s.io";
/// How long a call may take that moves no image.
pub(crate) const CALL_TIMEOUT: Duration = Duration::from_secs(10);
/// A list of some thousand images fits.
const MAX_ANSWER: usize = 32 << 20;

/// A container runtime: containerd, or, for what is CRI, any other. Cheap to clone. A runtime that restarts is connected to again by
/// itself with the next call.
#[derive(Debug, Clone)]
pub struct Runtime {
    channel: Channel,
    socket: PathBuf,
}

impl Runtime {
    /// Through this socket, which has to be there now.
    pub async fn connect(socket: &Path) -> Result<Self, Error> {
        let is_there = tokio::fs::try_exists(socket).await;
        if !is_there.map_err(|error| unreachable_socket(socket, &error))? {
            return Err(Error::Missing { socket: socket.to_owned() });
        }
        let path = socket.to_owned();
        let connector = tower::service_fn(move |_| {
            let path = path.clone();
            async move { UnixStream::connect(path).await.map(TokioIo::new) }
        });
        // The host is what stands in the requests' `:authority`; a Unix socket has none.
        let endpoint = Endpoint::from_static("http://localhost").connect_timeout(CALL_TIMEOUT);
        let connected = endpoint.connect_with_connector(connector).await;
        let channel = connected.map_err(|error| unreachable_socket(socket, &error))?;
        Ok(Self { channel, socket: socket.to_owned() })
    }

    /// One question and one answer. `limit`: none for what takes as long as it takes.
    pub(crate) async fn call<Q, A>(
        &self,
        method: &'static str,
        question: Q,
        limit: Option<Duration>,
    ) -> Result<A, Error>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let calling = async {
            let mut grpc = self.ready(method).await?;
            let codec: ProstCodec<Q, A> = ProstCodec::default();
            let answer = grpc.unary(request(question), PathAndQuery::from_static(method), codec).await;
            answer.map(tonic::Response::into_inner).map_err(|status| self.failed(method, &status))
        };
        match limit {
            None => calling.await,
            Some(limit) => {
                tokio::time::timeout(limit, calling).await.map_err(|_| Error::Timeout { method, limit })?
            }
        }
    }

    /// One question, and answers until somebody ends them.
    pub(crate) async fn stream<Q, A>(&self, method: &'static str, question: Q) -> Result<Streaming<A>, Error>
    where
        Q: Message + 'static,
        A: Message + Default + 'static,
    {
        let mut grpc = self.ready(method).await?;
        let codec: ProstCodec<Q, A> = ProstCodec::default();
        let answer = grpc.server_streaming(request(question), PathAndQuery::from_static(method), codec).await;
        answer.map(tonic::Response::into_inner).map_err(|status| self.failed(method, &status))
    }

    async fn ready(&self, method: &'static str) -> Result<Grpc<Channel>, Error> {
        let mut grpc = Grpc::new(self.channel.clone()).max_decoding_message_size(MAX_ANSWER);
        let ready = tokio::time::timeout(CALL_TIMEOUT, grpc.ready()).await;
        ready
            .map_err(|_| Error::Timeout { method, limit: CALL_TIMEOUT })?
            .map_err(|error| unreachable_socket(&self.socket, &error))?;
        Ok(grpc)
    }

    pub(crate) fn failed(&self, method: &'static str, status: &Status) -> Error {
        // A status with a source was made on our side, of a connection that broke during the call.
        if status.code() == Code::Unavailable || std::error::Error::source(status).is_some() {
            return unreachable_socket(&self.socket, status);
        }
        Error::refused(method, status)
    }
}

/// CRI does not look at the namespace; all of containerd's own API wants it.
fn request<Q>(question: Q) -> Request<Q> {
    let mut request = Request::new(question);
    request.metadata_mut().insert("containerd-namespace", MetadataValue::from_static(NAMESPACE));
    request
}

fn unreachable_socket(socket: &Path, error: &dyn std::error::Error) -> Error {
    // tonic's own words ("transport error") say nothing; those of what is beneath do.
    let mut deepest = error;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    Error::Unreachable { socket: socket.to_owned(), why: deepest.to_string() }
}

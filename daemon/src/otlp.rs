//! Traces over OTLP/HTTP, when `OTEL_EXPORTER_OTLP_ENDPOINT` names a collector.
//!
//! The batch processor of the SDK exports from a thread of its own, without a runtime; [`RuntimeClient`] carries its requests
//! over to ours. Only `http://` endpoints are taken: collectors run on the node or in the cluster, and this keeps the
//! decision about TLS with the parts that need it.

use std::time::Duration;

use anyhow::{Context, bail};
use async_trait::async_trait;
use bytes::Bytes;
use opentelemetry::trace::TracerProvider;
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{SpanExporter, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::SdkTracerProvider;
use tracing::Subscriber;
use tracing_subscriber::Layer;
use tracing_subscriber::filter::FilterFn;
use tracing_subscriber::registry::LookupSpan;

/// Where the specification of OpenTelemetry lets an operator of software name the collector, the narrower one first.
const ENDPOINTS: [&str; 2] = ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"];
/// One export may take this long; the SDK's shutdown waits about as long.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// More than a collector has to say.
const MAX_ANSWER: usize = 64 << 10;
/// Targets of the exporter itself: tracing them would make each export the cause of the next.
const OWN_TARGETS: [&str; 5] = ["hyper", "hyper_util", "reqwest", "h2", "opentelemetry"];

/// The provider of traces for the endpoint in the environment; none if there is no endpoint.
pub(crate) fn provider(name: &'static str) -> anyhow::Result<Option<SdkTracerProvider>> {
    let Some((variable, endpoint)) = ENDPOINTS.iter().find_map(|variable| {
        std::env::var(variable).ok().filter(|value| !value.is_empty()).map(|value| (variable, value))
    }) else {
        return Ok(None);
    };
    if !endpoint.starts_with("http://") {
        bail!(
            "{variable} is `{endpoint}`: give an http:// endpoint of an OTLP/HTTP collector, such as http://127.0.0.1:4318"
        );
    }
    let exporter = SpanExporter::builder()
        .with_http()
        .with_http_client(RuntimeClient::new()?)
        .build()
        .with_context(|| format!("cannot export traces to `{endpoint}` of {variable}"))?;
    let mut resource = Resource::builder();
    if std::env::var_os("OTEL_SERVICE_NAME").is_none() {
        resource = resource.with_service_name(name);
    }
    Ok(Some(
        SdkTracerProvider::builder().with_resource(resource.build()).with_batch_exporter(exporter).build(),
    ))
}

/// The layer that turns spans into traces.
pub(crate) fn layer<S>(provider: &SdkTracerProvider) -> impl Layer<S> + use<S>
where
    S: Subscriber + for<'span> LookupSpan<'span>,
{
    tracing_opentelemetry::layer().with_tracer(provider.tracer("samara")).with_filter(FilterFn::new(
        |metadata| {
            let root = metadata.target().split("::").next().unwrap_or_default();
            !OWN_TARGETS.contains(&root)
        },
    ))
}

/// Sends the exporter's requests on the runtime that it was made on, whichever thread asks.
#[derive(Debug)]
struct RuntimeClient {
    client: reqwest::Client,
    runtime: tokio::runtime::Handle,
}

impl RuntimeClient {
    fn new() -> anyhow::Result<Self> {
        let runtime = tokio::runtime::Handle::try_current().context("traces need a tokio runtime")?;
        let client = reqwest::Client::builder()
            .timeout(EXPORT_TIMEOUT)
            .redirect(reqwest::redirect::Policy::none())
            .tls_backend_preconfigured(no_tls()?)
            .build()
            .context("cannot make the HTTP client for traces")?;
        Ok(RuntimeClient { client, runtime })
    }
}

/// Trusts nobody: endpoints are `http://`. Given all the same, since reqwest panics where another crate of the same program
/// asked it for TLS without a provider.
fn no_tls() -> anyhow::Result<rustls::ClientConfig> {
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    Ok(rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .context("cannot configure the HTTP client for traces")?
        .with_root_certificates(rustls::RootCertStore::empty())
        .with_no_client_auth())
}

#[async_trait]
impl HttpClient for RuntimeClient {
    async fn send_bytes(&self, request: http::Request<Bytes>) -> Result<http::Response<Bytes>, HttpError> {
        let client = self.client.clone();
        self.runtime.spawn(async move { send(&client, request).await }).await?
    }
}

async fn send(
    client: &reqwest::Client,
    request: http::Request<Bytes>,
) -> Result<http::Response<Bytes>, HttpError> {
    let mut response = client.execute(request.try_into()?).await?;
    let mut answer = http::Response::builder().status(response.status());
    if let Some(headers) = answer.headers_mut() {
        *headers = std::mem::take(response.headers_mut());
    }
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        if body.len() + chunk.len() > MAX_ANSWER {
            return Err("the collector's answer is too long".into());
        }
        body.extend_from_slice(&chunk);
    }
    Ok(answer.body(Bytes::from(body))?)
}

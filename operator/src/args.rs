//! The command line of `samara-operator`.

use std::net::SocketAddr;

use anyhow::Context;
use clap::{ArgAction, Parser, Subcommand};
use daemon::{CancellationToken, LogArgs};
use kube::Client;

use crate::context::Settings;
use crate::retire::{RetireArgs, retire};
use crate::run::{OperatorConfig, api_server_addresses, run};

const EXAMPLES: &str = "\
It runs in a cluster, from the chart; outside of one it uses the current context of the kubeconfig.

Environment:
  POD_NAMESPACE, POD_NAME       set by the chart, see --namespace and --identity
  KUBERNETES_SERVICE_HOST       the API server's address, which is no origin
  OTEL_EXPORTER_OTLP_ENDPOINT   http:// address of a collector of traces; without it there are none
  NO_COLOR                      no colours in logs";

/// The operator of Samara: turns Distributions into torrents, and keeps trackers running.
#[derive(Clone, Debug, Parser)]
#[command(name = "samara-operator", version, after_help = EXAMPLES, subcommand_negates_reqs = true)]
pub struct Args {
    #[command(subcommand)]
    command: Option<Command>,

    /// Namespace that it, its trackers and its sidecars run in
    #[arg(long, env = "POD_NAMESPACE", value_name = "NAMESPACE", default_value = "samara-system")]
    namespace: String,

    /// Name of this process among its replicas, for the Lease
    #[arg(long, env = "POD_NAME", value_name = "NAME", default_value = "samara-operator")]
    identity: String,

    /// URL under which sidecars reach --listen-api [default: https://samara-operator.<namespace>.svc:8443]
    #[arg(long, env = "SAMARA_PUBLIC_URL", value_name = "URL")]
    public_url: Option<String>,

    /// Image of the trackers
    #[arg(long, env = "SAMARA_IMAGE", value_name = "IMAGE", required = true)]
    image: Option<String>,

    /// Secret to pull that image with; may be given several times
    #[arg(
        long = "image-pull-secret",
        env = "SAMARA_IMAGE_PULL_SECRETS",
        value_name = "NAME",
        value_delimiter = ','
    )]
    image_pull_secrets: Vec<String>,

    /// ServiceAccount of the sidecars
    #[arg(
        long,
        env = "SAMARA_SIDECAR_SERVICE_ACCOUNT",
        value_name = "NAME",
        default_value = "samara-sidecar"
    )]
    sidecar_service_account: String,

    /// Whether the leader applies the CRDs it was built with, where they are older
    #[arg(long, env = "SAMARA_MANAGE_CRDS", value_name = "BOOL", default_value_t = true, action = ArgAction::Set)]
    manage_crds: bool,

    /// Address and port for sidecars, HTTPS; [::] takes IPv4 too
    #[arg(long, env = "SAMARA_LISTEN_API", value_name = "ADDRESS:PORT", default_value = "[::]:8443")]
    listen_api: SocketAddr,

    /// Address and port of /healthz, /readyz and /metrics
    #[arg(long, env = "SAMARA_LISTEN_HEALTH", value_name = "ADDRESS:PORT", default_value = "[::]:8080")]
    listen_health: SocketAddr,

    #[command(flatten)]
    logs: LogArgs,
}

/// What else it can do.
#[derive(Clone, Debug, Subcommand)]
enum Command {
    /// Let go of classes before Samara is uninstalled: the chart's hook runs it
    Retire(RetireArgs),
}

impl Args {
    /// How to log.
    pub fn logs(&self) -> &LogArgs {
        &self.logs
    }

    /// Runs the operator, or the subcommand, until `shutdown`.
    pub async fn run(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        // Taken apart, so that an option that nobody uses does not compile.
        let Self {
            command,
            namespace,
            identity,
            public_url,
            image,
            image_pull_secrets,
            sidecar_service_account,
            manage_crds,
            listen_api,
            listen_health,
            logs: _,
        } = self;
        let client = Client::try_default()
            .await
            .context("cannot find the API server: no service account and no kubeconfig")?;
        if let Some(Command::Retire(args)) = command {
            return tokio::select! {
                result = run_retire(client, &args) => result,
                () = shutdown.cancelled() => Ok(()),
            };
        }
        let settings = Settings {
            public_url: public_url.unwrap_or_else(|| format!("https://samara-operator.{namespace}.svc:8443")),
            namespace,
            image: image.context("--image is needed: it is what the trackers run")?,
            image_pull_secrets,
            sidecar_service_account,
            identity,
            manage_crds,
            api_server: api_server_addresses(),
        };
        let api = daemon::bind(listen_api).context("for sidecars")?;
        let health = Some(daemon::bind(listen_health).context("for health")?);
        Box::pin(run(OperatorConfig { client, settings, api, health }, shutdown)).await;
        Ok(())
    }
}

/// What is left is told and no error: nothing may keep an uninstall from ending.
async fn run_retire(client: Client, args: &RetireArgs) -> anyhow::Result<()> {
    for what in retire(client, args).await {
        tracing::warn!(%what, "left behind");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn retire_needs_no_image() {
        let args = Args::try_parse_from([
            "samara-operator",
            "retire",
            "--mode=Keep",
            "--timeout=60s",
            "--class=default",
        ]);
        assert!(matches!(args.unwrap().command, Some(Command::Retire(_))));
        let image = Args::try_parse_from(["samara-operator", "--image=x", "--manage-crds=false"]).unwrap();
        assert!(!image.manage_crds && image.command.is_none());
    }
}

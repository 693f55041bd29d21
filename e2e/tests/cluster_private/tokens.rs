//! A token server beside a registry: this very program, started again in the registry's network.

use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result};
use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use e2e::cluster::process::Daemon;
use e2e::cluster::{Namespace, until};
use e2e::registry::Auth;
use serde_json::json;

use crate::signer::Signer;

/// Whose tokens they are.
pub const USER: &str = "me";
pub const PASSWORD: &str = "pw-4c1e93b07d52";
/// What is pushed and pulled.
pub const REPOSITORY: &str = "team/private";
/// Tells the program that it is the token server: its folder, and where it listens.
const FOLDER: &str = "SAMARA_E2E_TOKENS";
const LISTEN: &str = "SAMARA_E2E_TOKENS_LISTEN";
const PORT: u16 = 5001;
/// Good for so many seconds.
const LIFETIME: u64 = 300;

/// A token server, which ends with this.
pub struct Tokens {
    folder: PathBuf,
    daemon: Daemon,
}

impl Drop for Tokens {
    fn drop(&mut self) {
        self.daemon.kill();
    }
}

/// `user:password`, as it is shown.
pub fn basic() -> String {
    STANDARD.encode(format!("{USER}:{PASSWORD}"))
}

impl Tokens {
    /// Starts it on the registry's own address; with what the registry is to ask for.
    pub async fn start(network: &Namespace, address: Ipv4Addr, dir: &Path) -> Result<(Self, Auth)> {
        let folder = dir.join("tokens");
        std::fs::create_dir_all(&folder)?;
        let mut command = network.command(std::env::current_exe()?);
        command.env(FOLDER, &folder).env(LISTEN, format!("{address}:{PORT}"));
        let daemon = Daemon::spawn(command, &folder.join("log"))?;
        let push = until("the token server", Duration::from_secs(20), || async {
            Ok(std::fs::read_to_string(folder.join("push")).ok())
        })
        .await?;
        let section = json!({ "token": {
            "realm": format!("http://{address}:{PORT}/token"), "service": "reg", "issuer": "iss",
            "rootcertbundle": folder.join("roots.pem"),
        } });
        let auth = Auth { section, push: Some(format!("Bearer {push}")) };
        Ok((Self { folder, daemon }, auth))
    }

    /// Where every token is written that was given.
    pub fn file(&self) -> PathBuf {
        given(&self.folder)
    }

    /// Those tokens.
    pub fn given(&self) -> Result<Vec<String>> {
        Ok(std::fs::read_to_string(self.file())?.lines().map(str::to_owned).collect())
    }
}

fn given(folder: &Path) -> PathBuf {
    folder.join("given")
}

/// Serves, if this is what the program was started for.
pub fn serve() -> Option<ExitCode> {
    let folder = PathBuf::from(std::env::var_os(FOLDER)?);
    let served = tokio::runtime::Runtime::new().expect("the machine can start threads").block_on(run(folder));
    if let Err(error) = served {
        eprintln!("{error:#}");
    }
    Some(ExitCode::FAILURE)
}

async fn run(folder: PathBuf) -> Result<()> {
    let address: SocketAddr = std::env::var(LISTEN)?.parse()?;
    let listener = tokio::net::TcpListener::bind(address).await.context("listen")?;
    let signer = Signer::new();
    std::fs::write(folder.join("roots.pem"), &signer.pem)?;
    let push = signer.token(REPOSITORY, "push,pull", 3600);
    // Renamed into place: who finds it finds all of it.
    std::fs::write(folder.join("partial"), push)?;
    std::fs::rename(folder.join("partial"), folder.join("push"))?;
    let router = Router::new().route("/token", get(token)).with_state(Arc::new((signer, folder)));
    axum::serve(listener, router).await?;
    Ok(())
}

async fn token(State(state): State<Arc<(Signer, PathBuf)>>, headers: HeaderMap) -> Response {
    let (signer, folder) = &*state;
    let wanted = format!("Basic {}", basic());
    if headers.get("authorization").is_none_or(|shown| shown.as_bytes() != wanted.as_bytes()) {
        return StatusCode::UNAUTHORIZED.into_response();
    }
    let token = signer.token(REPOSITORY, "pull", LIFETIME);
    let file = std::fs::OpenOptions::new().create(true).append(true).open(given(folder));
    if file.and_then(|mut file| writeln!(file, "{token}")).is_err() {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    }
    axum::Json(json!({ "token": token, "expires_in": LIFETIME })).into_response()
}

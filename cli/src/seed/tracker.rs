//! A tracker in this process, for whoever wants to share without having one.

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};

use anyhow::{Context as _, Result};
use daemon::CancellationToken;
use tokio::task::JoinHandle;

use crate::share::End;

/// Where trackers listen by custom.
const PORT: u16 = 6969;
/// An address of documentation (RFC 5737): the way there is the way to anywhere.
const ANYWHERE: (Ipv4Addr, u16) = (Ipv4Addr::new(192, 0, 2, 1), 9);

/// Where a tracker listens.
#[derive(Clone, Copy, Debug)]
pub enum TrackerAt {
    /// On the customary port of the address that peers connect to.
    Customary,
    /// There.
    Address(SocketAddr),
}

/// A running tracker that serves any torrent.
pub struct Tracker {
    url: String,
    stop: CancellationToken,
    task: JoinHandle<()>,
}

impl Tracker {
    /// Starts it; peers connect to `bind`.
    pub fn start(at: TrackerAt, bind: IpAddr) -> Result<Self> {
        let address = match at {
            TrackerAt::Customary => SocketAddr::new(bind, PORT),
            TrackerAt::Address(address) => address,
        };
        let listener = daemon::bind(address).context("cannot run a tracker")?;
        let host = if address.ip().is_unspecified() { own_address()? } else { address.ip() };
        let port = listener.local_addr().context("cannot run a tracker")?.port();
        let stop = CancellationToken::new();
        let config = tracker::Config { public: true, ..tracker::Config::default() };
        let tracker = tracker::Tracker::new(config)?;
        let stopped = stop.clone();
        let task = tokio::spawn(async move { tracker.serve(listener, stopped).await });
        Ok(Self { url: format!("http://{}/announce", SocketAddr::new(host, port)), stop, task })
    }

    /// Its announce URL.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Ends it.
    pub async fn stop(self) {
        self.stop.cancel();
        if let Err(error) = self.task.await {
            tracing::warn!(%error, "the tracker did not end well");
        }
    }
}

/// The address of this machine that others see. Connecting a UDP socket sends nothing.
fn own_address() -> Result<IpAddr> {
    let asked = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).and_then(|socket| {
        socket.connect(ANYWHERE)?;
        socket.local_addr()
    });
    asked.map(|address| address.ip()).map_err(|error| {
        let why = format!(
            "this machine does not know its own address ({error}): give it with --run-tracker=IP:PORT"
        );
        End::Usage(why).into()
    })
}

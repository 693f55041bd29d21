//! What an announce URL names: the tracker, and how it is spoken to.

use std::time::Duration;

use url::{Host, Url};

use super::AnnounceError;
use super::http::HttpTracker;
use super::udp::UdpTracker;
use crate::announce::udp::{CONNECTION_TIME, UrlData};
use crate::net::api::TrackerSpec;

/// A tracker as one session announces to it.
pub enum Endpoint {
    /// `http://` and `https://`.
    Http(HttpTracker),
    /// `udp://`.
    Udp(UdpTracker),
}

impl Endpoint {
    /// That of a tracker; nothing is looked up or opened yet.
    pub fn of(spec: &TrackerSpec) -> Result<Self, AnnounceError> {
        let url = Url::parse(&spec.url)?;
        match url.scheme() {
            "http" | "https" => Ok(Self::Http(HttpTracker { url, bearer: spec.bearer.clone() })),
            "udp" if super::is_own(spec) => Err(AnnounceError::Token),
            "udp" => udp(&url).map(Self::Udp),
            other => Err(AnnounceError::Scheme(other.to_owned())),
        }
    }

    /// Waits, and keeps nothing open that has no use.
    pub async fn rest(&mut self, wait: Duration) {
        if let Self::Udp(tracker) = self {
            let useful = wait.min(CONNECTION_TIME);
            tokio::time::sleep(useful).await;
            tracker.forget_connections();
            tokio::time::sleep(wait.saturating_sub(useful)).await;
        } else {
            tokio::time::sleep(wait).await;
        }
    }
}

fn udp(url: &Url) -> Result<UdpTracker, AnnounceError> {
    let host = match url.host() {
        Some(Host::Ipv6(ip)) => ip.to_string(),
        Some(host) => host.to_string(),
        None => String::new(),
    };
    // There is no customary port.
    let Some(port) = url.port().filter(|port| *port != 0 && !host.is_empty()) else {
        return Err(AnnounceError::HostAndPort);
    };
    let query = url.query().map_or_else(String::new, |query| format!("?{query}"));
    let data = UrlData::new(&(url.path().to_owned() + &query)).ok_or(AnnounceError::LongUrl)?;
    Ok(UdpTracker::new(host, port, data))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(url: &str, node: Option<&str>) -> String {
        let spec = TrackerSpec { url: url.into(), bearer: None, node: node.map(str::to_owned) };
        Endpoint::of(&spec).err().map_or_else(String::new, |error| error.to_string())
    }

    #[test]
    fn http_https_and_udp_are_spoken_and_all_else_is_named() {
        for url in
            ["http://a/announce", "https://a", "udp://a:1", "udp://[::1]:1/announce?key=1", "UDP://1.2.3.4:5"]
        {
            assert_eq!(error(url, None), "", "{url}");
        }
        for (url, part) in [
            ("wss://a/announce", "wss:// trackers"),
            ("announce", "does not parse"),
            ("udp://a/announce", "host and a port"),
            ("udp://a:0/announce", "host and a port"),
            ("udp:a", "host and a port"),
            (&format!("udp://a:1/{}", "x".repeat(2000)), "1020"),
        ] {
            assert!(error(url, None).contains(part), "{url}: {}", error(url, None));
        }
        assert_eq!(error("http://a", Some("node")), "");
        assert!(error("udp://a:1", Some("node")).contains("node name"));
    }
}

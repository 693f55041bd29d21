//! Telling a service manager how the process is, as sd_notify(3) does: datagrams to the socket that `NOTIFY_SOCKET` names.

use std::env;
use std::ffi::OsStr;
use std::io;
use std::os::linux::net::SocketAddrExt;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// How long the manager may take to make room for a message. It usually has room.
const PATIENCE: Duration = Duration::from_secs(1);

/// The service manager, if there is one that wants to hear. A message that does not arrive is a warning in the log: the process can do
/// its work all the same.
#[derive(Debug, Default)]
pub struct ServiceManager(Option<UnixDatagram>);

impl ServiceManager {
    /// The one that the environment names.
    pub fn from_env() -> Self {
        let Some(socket) = env::var_os("NOTIFY_SOCKET").filter(|socket| !socket.is_empty()) else {
            return Self::default();
        };
        Self::at(&socket).unwrap_or_else(|error| {
            tracing::warn!(%error, ?socket, "NOTIFY_SOCKET: the service manager cannot be told anything");
            Self::default()
        })
    }

    /// The one that listens at a path, or at an abstract name, before which stands `@`.
    ///
    /// # Errors
    /// When nobody listens there, or the name is of another kind (such as `vsock:`).
    pub fn at(socket: &OsStr) -> io::Result<Self> {
        let address = match socket.as_bytes() {
            [b'@', name @ ..] => SocketAddr::from_abstract_name(name)?,
            [b'/', ..] => SocketAddr::from_pathname(socket)?,
            _ => {
                return Err(io::Error::new(
                    io::ErrorKind::Unsupported,
                    "neither a path nor an abstract name",
                ));
            }
        };
        let manager = UnixDatagram::unbound()?;
        manager.connect_addr(&address)?;
        manager.set_write_timeout(Some(PATIENCE))?;
        Ok(ServiceManager(Some(manager)))
    }

    /// It can do its work, or has read its configuration again.
    pub fn ready(&self) {
        self.tell("READY=1");
    }

    /// It begins to read its configuration again; [`Self::ready`] is the end of that. The time says which request is meant.
    pub fn reloading(&self) {
        let now = clock_gettime(ClockId::Monotonic);
        let microseconds = now.tv_sec * 1_000_000 + now.tv_nsec / 1_000;
        self.tell(&format!("RELOADING=1\nMONOTONIC_USEC={microseconds}"));
    }

    /// It is about to end.
    pub fn stopping(&self) {
        self.tell("STOPPING=1");
    }

    fn tell(&self, message: &str) {
        let Some(manager) = &self.0 else { return };
        if let Err(error) = manager.send(message.as_bytes()) {
            tracing::warn!(%error, message, "the service manager cannot be told");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heard(manager: &UnixDatagram) -> String {
        let mut buffer = [0; 128];
        manager.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let length = manager.recv(&mut buffer).expect("a message");
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    fn tells_all(socket: &OsStr, manager: &UnixDatagram) {
        let process = ServiceManager::at(socket).unwrap();
        process.ready();
        assert_eq!(heard(manager), "READY=1");
        let monotonic = || clock_gettime(ClockId::Monotonic).tv_sec;
        let before = monotonic();
        process.reloading();
        let said = heard(manager);
        let microseconds: i64 = said.strip_prefix("RELOADING=1\nMONOTONIC_USEC=").unwrap().parse().unwrap();
        assert!((before..=monotonic()).contains(&(microseconds / 1_000_000)), "{said}");
        process.stopping();
        assert_eq!(heard(manager), "STOPPING=1");
    }

    #[test]
    fn a_manager_at_a_path_hears_everything() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("notify");
        let manager = UnixDatagram::bind(&path).unwrap();
        tells_all(path.as_os_str(), &manager);
    }

    #[test]
    fn a_manager_with_an_abstract_name_hears_everything() {
        let name = format!("samara-notify-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(&name).unwrap();
        let manager = UnixDatagram::bind_addr(&address).unwrap();
        tells_all(format!("@{name}").as_ref(), &manager);
    }

    #[test]
    fn where_nobody_listens_is_an_error_and_no_manager_is_none() {
        for wrong in ["/nowhere/notify", "@samara-nobody", "vsock:2:1234", "notify", ""] {
            assert!(ServiceManager::at(wrong.as_ref()).is_err(), "{wrong}");
        }
        ServiceManager::default().ready();
    }
}

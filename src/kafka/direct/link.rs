//! The way to one broker: its address, the connection while there is one, and when to try again.

use super::connection::{Connection, Failure};
use super::settings::Settings;
use mio::{Registry, Token};
use std::collections::VecDeque;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::{Duration, Instant};

const BACKOFF_MIN: Duration = Duration::from_millis(100);
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// How long connecting and logging in may take.
const CONNECT_MAX: Duration = Duration::from_secs(10);

/// When something that failed may be tried again: later each time.
#[derive(Debug)]
pub struct Backoff {
    pub next: Instant,
    pause: Duration,
}

impl Backoff {
    pub fn new(now: Instant) -> Self {
        Self {
            next: now,
            pause: BACKOFF_MIN,
        }
    }

    pub fn failed(&mut self, now: Instant) {
        self.next = now + self.pause;
        self.pause = (self.pause * 2).min(BACKOFF_MAX);
    }

    /// What is tried now is tried again at the earliest after the shortest pause.
    pub fn succeeded(&mut self) {
        self.pause = BACKOFF_MIN;
    }
}

pub struct Link {
    pub host: String,
    pub port: u16,
    pub connection: Option<Connection>,
    pub backoff: Backoff,
    /// The broker asks not to be asked before.
    pub quiet_until: Instant,
    /// Addresses of the host that are still to be tried.
    addresses: VecDeque<SocketAddr>,
}

impl Link {
    pub fn new(host: &str, port: u16, now: Instant) -> Self {
        Self {
            host: host.to_string(),
            port,
            connection: None,
            backoff: Backoff::new(now),
            quiet_until: now,
            addresses: VecDeque::new(),
        }
    }

    pub fn is_ready(&self) -> bool {
        self.connection.as_ref().is_some_and(Connection::is_ready)
    }

    /// Begins to connect. Names are resolved here, by the system, which may take its time.
    pub fn open(
        &mut self,
        settings: &Settings,
        registry: &Registry,
        token: Token,
        now: Instant,
    ) -> Result<(), Failure> {
        if self.addresses.is_empty() {
            let found = (self.host.as_str(), self.port).to_socket_addrs();
            let cannot = |e| Failure::Passing(format!("cannot resolve {}: {e}", self.host));
            self.addresses = found.map_err(cannot)?.collect();
        }
        let Some(address) = self.addresses.pop_front() else {
            let reason = format!("{} has no address", self.host);
            return Err(Failure::Passing(reason));
        };
        let opened = Connection::open(address, &self.host, settings, registry, token, now)?;
        self.connection = Some(opened);
        Ok(())
    }

    /// Whether the connection has been silent for too long.
    pub fn is_stuck(&self, settings: &Settings, now: Instant) -> bool {
        let allowed = match self.is_ready() {
            true => settings.patience + settings.longest_wait(),
            false => CONNECT_MAX.min(settings.patience),
        };
        self.is_silent(allowed, now)
    }

    /// Whether it has been silent for longer.
    pub fn is_silent(&self, allowed: Duration, now: Instant) -> bool {
        let silent = |c: &Connection| c.silent_for(now) > allowed;
        self.connection.as_ref().is_some_and(silent)
    }

    /// Drops the connection; the next address is tried at once, the first one after a pause.
    pub fn fail(&mut self, registry: &Registry, now: Instant) {
        if let Some(mut connection) = self.connection.take() {
            if connection.is_ready() {
                self.addresses.clear();
            }
            connection.close(registry);
        }
        if self.addresses.is_empty() {
            self.backoff.failed(now);
        }
    }
}

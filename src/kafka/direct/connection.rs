//! One connection to one broker: from the first packet over the password to requests and their
//! responses. Never blocks.

use super::codes;
use super::messages as m;
use super::sasl::Login;
use super::settings::Settings;
use super::stream::Stream;
use super::wire::{In, Malformed};
use crate::error::Error;
use crate::kafka::faults;
use mio::net::TcpStream;
use mio::{Interest, Registry, Token};
use std::collections::VecDeque;
use std::io::{self, ErrorKind};
use std::net::SocketAddr;
use std::time::{Duration, Instant};

/// No response is longer. What says it is, is no Kafka broker.
pub const FRAME_MAX: usize = 256 << 20;
/// A buffer that grew beyond this for one frame is given back after it.
const FRAME_KEPT: usize = 8 << 20;
/// Length and correlation id.
pub const HEADER: usize = 8;
/// A frame's buffer grows by no more than was read of it, or by so much.
const FRAME_STEP: usize = 1 << 20;

/// Why a connection ends.
#[derive(Debug)]
pub enum Failure {
    /// A new one may do better.
    Passing(String),
    Final(Error),
    /// The broker is too old for this client.
    TooOld(Error),
    /// A response has so many bytes.
    TooLarge(usize),
}

impl From<io::Error> for Failure {
    fn from(e: io::Error) -> Self {
        Self::Passing(match e.kind() {
            ErrorKind::UnexpectedEof => "the broker closed the connection".into(),
            _ => e.to_string(),
        })
    }
}

impl From<Malformed> for Failure {
    fn from(e: Malformed) -> Self {
        Self::Passing(format!("a response of the broker {}", e.0))
    }
}

/// A response with its length and its correlation id in front.
#[derive(Debug, Default)]
pub struct Frame {
    /// The buffer may be longer than the frame.
    buffer: Vec<u8>,
    end: usize,
}

impl Frame {
    pub fn bytes(&self) -> &[u8] {
        &self.buffer[..self.end]
    }

    /// What stands behind the header.
    pub fn body(&self) -> In<'_> {
        In::new(&self.bytes()[HEADER..])
    }
}

/// What a response answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    Login,
    /// `ids`: in the version with topic ids; so is the answer.
    Metadata {
        ids: bool,
    },
    Fetch {
        ids: bool,
    },
}

enum Phase {
    Connecting,
    Versions,
    Handshake,
    Authenticate(Login),
    Ready,
}

pub struct Connection {
    stream: Stream,
    phase: Phase,
    /// What is still to be written.
    out: Vec<u8>,
    /// The frame that arrives: all of its bytes are initialised, `filled` of them are read.
    frame: Vec<u8>,
    filled: usize,
    asked: VecDeque<(i32, Asked)>,
    correlation: i32,
    /// The broker speaks the versions with topic ids.
    pub speaks_ids: bool,
    /// The last time that a byte came, or a request was sent to a broker that owed nothing.
    heard: Instant,
    /// There may be something to read or room to write.
    pub active: bool,
}

impl Connection {
    pub fn open(
        address: SocketAddr,
        host: &str,
        settings: &Settings,
        registry: &Registry,
        token: Token,
        now: Instant,
    ) -> Result<Self, Failure> {
        let tcp = TcpStream::connect(address)?;
        let mut stream = match &settings.tls {
            None => Stream::Plain(tcp),
            Some(tls) => Stream::Tls(tcp, Box::new(tls.connect(host)?)),
        };
        registry.register(stream.tcp(), token, Interest::READABLE | Interest::WRITABLE)?;
        Ok(Self {
            stream,
            phase: Phase::Connecting,
            out: Vec::new(),
            frame: Vec::new(),
            filled: 0,
            asked: VecDeque::new(),
            correlation: 0,
            speaks_ids: false,
            heard: now,
            active: true,
        })
    }

    pub fn is_ready(&self) -> bool {
        matches!(self.phase, Phase::Ready)
    }

    /// How long a response has been owed without a byte of it coming.
    pub fn silent_for(&self, now: Instant) -> Duration {
        match self.is_ready() && self.asked.is_empty() {
            true => Duration::ZERO,
            false => now.saturating_duration_since(self.heard),
        }
    }

    pub fn fetches(&self) -> bool {
        let fetch = |asked: &Asked| matches!(asked, Asked::Fetch { .. });
        self.asked.iter().any(|(_, asked)| fetch(asked))
    }

    /// Sends the request that `write` makes of its correlation id.
    pub fn ask(
        &mut self,
        asked: Asked,
        now: Instant,
        write: impl FnOnce(i32) -> Vec<u8>,
    ) -> Result<(), Failure> {
        let correlation = self.correlation;
        self.correlation = self.correlation.wrapping_add(1);
        if self.asked.is_empty() {
            self.heard = now;
        }
        self.asked.push_back((correlation, asked));
        let request = write(correlation);
        match self.out.is_empty() {
            true => self.out = request,
            false => self.out.extend_from_slice(&request),
        }
        self.flush()
    }

    fn flush(&mut self) -> Result<(), Failure> {
        let mut sent = 0;
        let mut blocked = false;
        while sent < self.out.len() && !blocked {
            match self.stream.write(&self.out[sent..]) {
                Ok(n) => sent += n,
                Err(e) if e.kind() == ErrorKind::WouldBlock => blocked = true,
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e.into()),
            }
        }
        self.out.drain(..sent);
        match self.stream.flush() {
            Err(e) if e.kind() != ErrorKind::WouldBlock => Err(e.into()),
            _ => Ok(()),
        }
    }

    /// Goes on with whatever is to be done; returns a response to a request of the reader, if
    /// one is there.
    pub fn serve(
        &mut self,
        settings: &Settings,
        now: Instant,
    ) -> Result<Option<(Asked, Frame)>, Failure> {
        if matches!(self.phase, Phase::Connecting) && !self.connected(settings, now)? {
            self.active = false;
            return Ok(None);
        }
        self.flush()?;
        while let Some(frame) = self.receive(now)? {
            let correlation = In::new(&frame.bytes()[4..]).i32()?;
            let asked = match self.asked.pop_front() {
                Some((expected, asked)) if expected == correlation => asked,
                _ => return Err(Malformed("answers a request that was not made").into()),
            };
            match asked {
                Asked::Login => self.login(&frame, settings, now)?,
                _ => return Ok(Some((asked, frame))),
            }
        }
        self.active = false;
        Ok(None)
    }

    fn connected(&mut self, settings: &Settings, now: Instant) -> Result<bool, Failure> {
        if let Some(e) = self.stream.tcp().take_error()? {
            return Err(e.into());
        }
        match self.stream.tcp().peer_addr() {
            Ok(_) => {}
            Err(e) if e.kind() == ErrorKind::NotConnected => return Ok(false),
            Err(e) => return Err(e.into()),
        }
        self.stream.tcp().set_nodelay(true)?;
        self.phase = Phase::Versions;
        self.ask(Asked::Login, now, |c| {
            m::api_versions(c, &settings.client_id)
        })?;
        Ok(true)
    }

    /// A whole frame, or nothing yet.
    fn receive(&mut self, now: Instant) -> Result<Option<Frame>, Failure> {
        loop {
            let end = match self.filled {
                0..4 => 4,
                _ => 4 + self.frame_length()?,
            };
            if self.filled == end {
                self.filled = 0;
                let buffer = std::mem::take(&mut self.frame);
                return Ok(Some(Frame { buffer, end }));
            }
            let room = end.min(self.filled + self.filled.max(FRAME_STEP));
            if self.frame.len() < room {
                self.frame.resize(room, 0);
            }
            match self.stream.read(&mut self.frame[self.filled..room]) {
                Ok(0) => return Err(io::Error::from(ErrorKind::UnexpectedEof).into()),
                Ok(n) => {
                    self.filled += n;
                    self.heard = now;
                }
                Err(e) if e.kind() == ErrorKind::WouldBlock => return Ok(None),
                Err(e) if e.kind() == ErrorKind::Interrupted => {}
                Err(e) => return Err(e.into()),
            }
        }
    }

    fn frame_length(&self) -> Result<usize, Failure> {
        let length = In::new(&self.frame).i32()?;
        match usize::try_from(length) {
            Ok(length) if (4..=FRAME_MAX).contains(&length) => Ok(length),
            // What has logged us in is a Kafka broker.
            Ok(length) if length > FRAME_MAX && self.is_ready() => Err(Failure::TooLarge(length)),
            _ => Err(Failure::Passing(
                "what answers there does not speak Kafka's protocol; is it a listener with TLS?"
                    .into(),
            )),
        }
    }

    /// Takes a frame back that was handed out, for the next to be read into it.
    pub fn recycle(&mut self, frame: Frame) {
        if self.frame.is_empty() && frame.buffer.len() <= FRAME_KEPT {
            self.frame = frame.buffer;
        }
    }

    /// The next step on the way to `Ready`.
    fn login(&mut self, frame: &Frame, settings: &Settings, now: Instant) -> Result<(), Failure> {
        let mut body = frame.body();
        let client = &settings.client_id;
        let refused =
            |reason: String| Failure::Final(faults::refused(&settings.bootstrap, &reason));
        let token = match std::mem::replace(&mut self.phase, Phase::Ready) {
            Phase::Versions => {
                let (code, spoken) = m::read_api_versions(&mut body)?;
                if code != 0 || !spoken.reads {
                    return Err(Failure::TooOld(too_old(&settings.bootstrap)));
                }
                self.speaks_ids = spoken.ids;
                let Some(login) = &settings.login else {
                    return Ok(());
                };
                self.phase = Phase::Handshake;
                let mechanism = login.mechanism();
                return self.ask(Asked::Login, now, |c| {
                    m::sasl_handshake(c, client, mechanism)
                });
            }
            Phase::Handshake => {
                let (code, offered) = m::read_sasl_handshake(&mut body)?;
                let Some(mut login) = settings.login.clone() else {
                    return Ok(());
                };
                if code != 0 {
                    return Err(refused(format!(
                        "it does not offer {}, but {}",
                        login.mechanism(),
                        offered.join(", ")
                    )));
                }
                let first = login.first().map_err(refused)?;
                self.phase = Phase::Authenticate(login);
                first
            }
            Phase::Authenticate(mut login) => match m::read_sasl_authenticate(&mut body)? {
                Err((code, text)) => {
                    let reason = if text.is_empty() {
                        codes::name(code)
                    } else {
                        text
                    };
                    return Err(refused(reason));
                }
                Ok(challenge) => match login.answer(challenge).map_err(refused)? {
                    None => return Ok(()),
                    Some(answer) => {
                        self.phase = Phase::Authenticate(login);
                        answer
                    }
                },
            },
            Phase::Connecting | Phase::Ready => return Ok(()),
        };
        self.ask(Asked::Login, now, |c| {
            m::sasl_authenticate(c, client, &token)
        })
    }

    /// Says goodbye to the poll.
    pub fn close(&mut self, registry: &Registry) {
        // A socket that cannot be taken off is closed right after, which takes it off.
        let _closed = registry.deregister(self.stream.tcp());
    }
}

fn too_old(bootstrap: &str) -> Error {
    Error::env(format!("Kafka at {bootstrap} is older than 2.3"))
        .with_hint("'source.client' = 'librdkafka' reads it")
}

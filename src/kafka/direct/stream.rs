//! Bytes to and from a broker, in the clear or through TLS. Never blocks.

use mio::net::TcpStream;
use rustls::ClientConnection;
use std::io::{self, ErrorKind, Read, Write};

pub enum Stream {
    Plain(TcpStream),
    Tls(TcpStream, Box<ClientConnection>),
}

impl Stream {
    pub fn tcp(&mut self) -> &mut TcpStream {
        match self {
            Self::Plain(tcp) | Self::Tls(tcp, _) => tcp,
        }
    }

    /// Reads what is there; 0 at the end of the stream, `WouldBlock` where there is nothing yet.
    pub fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let (tcp, tls) = match self {
            Self::Plain(tcp) => return tcp.read(into),
            Self::Tls(tcp, tls) => (tcp, tls),
        };
        loop {
            match tls.reader().read(into) {
                Err(e) if e.kind() == ErrorKind::WouldBlock => {}
                done => return done,
            }
            if tls.read_tls(tcp)? == 0 {
                return Ok(0);
            }
            let state = tls.process_new_packets();
            // An answer of the handshake, or the alert that says why it failed.
            let sent = send(tcp, tls);
            state.map_err(|e| io::Error::new(ErrorKind::InvalidData, format!("TLS: {e}")))?;
            match sent {
                Err(e) if e.kind() != ErrorKind::WouldBlock => return Err(e),
                _ => {}
            }
        }
    }

    /// Writes what the other side takes, at least a byte; else `WouldBlock`.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Self::Plain(tcp) => tcp.write(bytes),
            Self::Tls(tcp, tls) => {
                send(tcp, tls)?;
                match tls.writer().write(bytes)? {
                    0 => Err(ErrorKind::WouldBlock.into()),
                    taken => Ok(taken),
                }
            }
        }
    }

    /// Sends what TLS still holds; `WouldBlock` where something is left.
    pub fn flush(&mut self) -> io::Result<()> {
        match self {
            Self::Plain(_) => Ok(()),
            Self::Tls(tcp, tls) => send(tcp, tls),
        }
    }
}

fn send(tcp: &mut TcpStream, tls: &mut ClientConnection) -> io::Result<()> {
    while tls.wants_write() {
        if tls.write_tls(tcp)? == 0 {
            return Err(ErrorKind::WriteZero.into());
        }
    }
    Ok(())
}

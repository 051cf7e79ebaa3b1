//! Requests of Kafka's protocol that no client makes: rights, and record batches byte by byte.

use super::broker::Broker;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

const PRODUCE: i16 = 0;
const DESCRIBE_ACLS: i16 = 29;
const CREATE_ACLS: i16 = 30;
const DELETE_ACLS: i16 = 31;
const PATIENCE: Duration = Duration::from_secs(30);
const LITERAL: u8 = 3;
const ALLOW: u8 = 3;

/// What a right is about: kind of resource, and its name.
#[derive(Debug, Clone, Copy)]
pub enum Resource<'a> {
    Topic(&'a str),
    Group(&'a str),
    TransactionalId(&'a str),
}

/// By the numbers of the protocol.
#[derive(Debug, Clone, Copy)]
pub enum Right {
    Read = 3,
    Write = 4,
    Describe = 8,
}

impl Resource<'_> {
    fn kind_and_name(&self) -> (u8, &str) {
        match self {
            Resource::Topic(name) => (2, name),
            Resource::Group(name) => (3, name),
            Resource::TransactionalId(name) => (5, name),
        }
    }

    /// As the protocol writes a right, or a filter that finds exactly it.
    fn bytes(&self, right: Right) -> Vec<u8> {
        let (kind, name) = self.kind_and_name();
        let mut out = vec![kind];
        string(&mut out, name);
        out.push(LITERAL);
        string(&mut out, &format!("User:{}", Broker::SASL_USER));
        string(&mut out, "*");
        out.extend([right as u8, ALLOW]);
        out
    }
}

fn string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as i16).to_be_bytes());
    out.extend(text.as_bytes());
}

/// Sends one request over the plain listener; returns the response behind its header.
fn request(bootstrap: &str, key: i16, version: i16, body: &[u8]) -> Vec<u8> {
    let mut header = Vec::new();
    header.extend(key.to_be_bytes());
    header.extend(version.to_be_bytes());
    header.extend(7_i32.to_be_bytes());
    string(&mut header, "windrow-tests");
    let mut stream = TcpStream::connect(bootstrap).expect("connect to the broker");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    let length = (header.len() + body.len()) as i32;
    stream.write_all(&length.to_be_bytes()).unwrap();
    stream.write_all(&header).unwrap();
    stream.write_all(body).unwrap();
    let mut length = [0; 4];
    stream.read_exact(&mut length).expect("an answer");
    let mut response = vec![0; i32::from_be_bytes(length) as usize];
    stream.read_exact(&mut response).unwrap();
    response.split_off(4)
}

/// Gives alice a right, and returns when the broker goes by it.
pub fn allow(bootstrap: &str, resource: Resource<'_>, right: Right) {
    change(bootstrap, CREATE_ACLS, resource, right, true);
}

/// Takes it away again.
pub fn forbid(bootstrap: &str, resource: Resource<'_>, right: Right) {
    change(bootstrap, DELETE_ACLS, resource, right, false);
}

fn change(bootstrap: &str, key: i16, resource: Resource<'_>, right: Right, there: bool) {
    let one = resource.bytes(right);
    let body = [&1_i32.to_be_bytes()[..], &one].concat();
    let response = request(bootstrap, key, 1, &body);
    // Throttle time, number of results, the code of the first.
    assert_eq!(response[8..10], [0, 0], "{resource:?} {right:?}");
    let started = Instant::now();
    loop {
        // Throttle time, code, message (none), number of resources.
        let response = request(bootstrap, DESCRIBE_ACLS, 1, &one);
        assert_eq!(response[4..6], [0, 0], "{resource:?} {right:?}");
        let count = i32::from_be_bytes(response[8..12].try_into().unwrap());
        if (count > 0) == there {
            return;
        }
        assert!(started.elapsed() < PATIENCE, "{resource:?} {right:?}");
    }
}

/// A record batch of one record, whose records are packed already (`codec` is the number of the
/// attributes), and which begins at offset 0: the broker puts the right one in.
pub fn batch(codec: i16, packed: &[u8]) -> Vec<u8> {
    batch_at(1_700_000_000_000, codec, packed)
}

/// The same with a timestamp of its own, in ms.
pub fn batch_at(timestamp_ms: i64, codec: i16, packed: &[u8]) -> Vec<u8> {
    let mut rest = Vec::new();
    rest.extend(codec.to_be_bytes());
    rest.extend(0_i32.to_be_bytes()); // last offset delta
    rest.extend(timestamp_ms.to_be_bytes()); // the first and the largest
    rest.extend(timestamp_ms.to_be_bytes());
    rest.extend((-1_i64).to_be_bytes()); // no producer
    rest.extend((-1_i16).to_be_bytes());
    rest.extend((-1_i32).to_be_bytes());
    rest.extend(1_i32.to_be_bytes());
    rest.extend(packed);
    let mut batch = Vec::new();
    batch.extend(0_i64.to_be_bytes());
    // Leader epoch, magic and CRC count, too.
    batch.extend((rest.len() as i32 + 9).to_be_bytes());
    batch.extend((-1_i32).to_be_bytes());
    batch.push(2);
    batch.extend(crc32c::crc32c(&rest).to_be_bytes());
    batch.extend(rest);
    batch
}

/// What stands before the value of a record without key, and behind it: so many bytes long.
pub fn record_around(value_bytes: i64) -> (Vec<u8>, Vec<u8>) {
    let mut head = vec![0]; // attributes
    for number in [0, 0, -1, value_bytes] {
        varint(&mut head, number);
    }
    let tail = vec![0]; // headers
    let mut out = Vec::new();
    varint(&mut out, head.len() as i64 + value_bytes + 1);
    out.extend(head);
    (out, tail)
}

fn varint(out: &mut Vec<u8>, number: i64) {
    let mut zigzag = ((number << 1) ^ (number >> 63)) as u64;
    while zigzag >= 0x80 {
        out.push(zigzag as u8 | 0x80);
        zigzag >>= 7;
    }
    out.push(zigzag as u8);
}

/// Appends a batch to a partition 0 as it is; the code that the broker answers.
pub fn produce_batch(bootstrap: &str, topic: &str, batch: &[u8]) -> i16 {
    let mut body = Vec::new();
    body.extend((-1_i16).to_be_bytes()); // no transaction
    body.extend((-1_i16).to_be_bytes()); // all replicas
    body.extend(30_000_i32.to_be_bytes());
    body.extend(1_i32.to_be_bytes());
    string(&mut body, topic);
    body.extend(1_i32.to_be_bytes());
    body.extend(0_i32.to_be_bytes());
    body.extend((batch.len() as i32).to_be_bytes());
    body.extend(batch);
    let response = request(bootstrap, PRODUCE, 7, &body);
    // One topic, its name, one partition, its number, its code.
    let at = 4 + 2 + topic.len() + 4 + 4;
    i16::from_be_bytes(response[at..at + 2].try_into().unwrap())
}

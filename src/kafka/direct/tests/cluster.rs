//! Brokers of a few lines, for what a real one does rarely: leaders that move, errors, noise.

use super::super::wire::In;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, Weak};
use std::time::{Duration, Instant};

pub const TOPIC: &str = "t";

/// What the brokers know and do; tests change it while they run.
pub struct State {
    pub ports: Vec<u16>,
    /// Index of the leading broker; -1 for none.
    pub leader: i32,
    /// Error code of the topic in metadata, and of its partition in Fetch.
    pub topic_code: i16,
    pub fetch_code: i16,
    /// Whole batches, in order, with their last offset.
    pub batches: Vec<(i64, Vec<u8>)>,
    /// What a Fetch request may hold is cut there, in the middle of a batch.
    pub cuts: bool,
    pub throttle_ms: i32,
    /// The highest version of Fetch. (Topic ids are tried on real brokers.)
    pub fetch_version: i16,
    pub answers: Answers,
    /// When each Fetch request came, at which broker, for which offset and how many bytes.
    pub fetches: Vec<(Instant, usize, i64, i32)>,
}

#[derive(Clone, Copy, PartialEq)]
pub enum Answers {
    Whole,
    /// In pieces of three bytes.
    Pieces,
    Never,
    Noise,
    /// To Fetch requests: says that a response of 300 MB comes.
    Huge,
}

pub struct Cluster(Arc<(Mutex<State>, Condvar)>);

impl Cluster {
    /// Broker 0 leads; the topic has one partition.
    pub fn start(brokers: usize) -> Self {
        let listeners: Vec<_> = (0..brokers)
            .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
            .collect();
        let ports = listeners.iter().map(|l| l.local_addr().unwrap().port());
        let state = State {
            ports: ports.collect(),
            leader: 0,
            topic_code: 0,
            fetch_code: 0,
            batches: Vec::new(),
            cuts: false,
            throttle_ms: 0,
            fetch_version: 11,
            answers: Answers::Whole,
            fetches: Vec::new(),
        };
        let cluster = Self(Arc::new((Mutex::new(state), Condvar::new())));
        for (node, listener) in listeners.into_iter().enumerate() {
            let shared = Arc::downgrade(&cluster.0);
            std::thread::spawn(move || {
                for stream in listener.incoming().map_while(Result::ok) {
                    let shared = shared.clone();
                    if shared.strong_count() == 0 {
                        return;
                    }
                    std::thread::spawn(move || serve(stream, node, &shared));
                }
            });
        }
        cluster
    }

    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.state().ports[0])
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.0.0.lock().unwrap()
    }

    /// Appends a batch of `count` records.
    pub fn append(&self, count: usize) {
        let mut state = self.state();
        let base = state.end();
        let batch = super::some(base, count).write();
        state.batches.push((base + count as i64 - 1, batch));
        self.0.1.notify_all();
    }
}

impl State {
    pub fn end(&self) -> i64 {
        self.batches.last().map_or(0, |(last, _)| last + 1)
    }
}

/// Until the client, or the test, is gone.
fn serve(mut stream: TcpStream, node: usize, shared: &Weak<(Mutex<State>, Condvar)>) {
    loop {
        let mut length = [0; 4];
        if stream.read_exact(&mut length).is_err() {
            return;
        }
        let mut request = vec![0; u32::from_be_bytes(length) as usize];
        stream.read_exact(&mut request).unwrap();
        let Some(shared) = shared.upgrade() else {
            return;
        };
        let answers = shared.0.lock().unwrap().answers;
        let body = answer(&request, node, &shared);
        drop(shared);
        let mut response = ((body.len() + 4) as i32).to_be_bytes().to_vec();
        response.extend(&request[4..8]);
        response.extend(body);
        let written = match answers {
            Answers::Whole => stream.write_all(&response),
            Answers::Pieces => response.chunks(3).try_for_each(|c| stream.write_all(c)),
            Answers::Never => Ok(()),
            Answers::Noise => stream.write_all(&[0x15, 3, 3, 0, 2, 2, 40]),
            Answers::Huge if request[..2] == [0, 1] => {
                stream.write_all(&(300_i32 << 20).to_be_bytes())
            }
            Answers::Huge => stream.write_all(&response),
        };
        if written.is_err() {
            return;
        }
    }
}

fn answer(request: &[u8], node: usize, shared: &(Mutex<State>, Condvar)) -> Vec<u8> {
    let mut request = In::new(request);
    let (api, version) = (request.i16().unwrap(), request.i16().unwrap());
    request.i32().unwrap();
    request.string().unwrap();
    match (api, version) {
        (18, 0) => versions(shared.0.lock().unwrap().fetch_version),
        (3, 7) => metadata(&shared.0.lock().unwrap()),
        (1, 11) => fetch(request, node, shared),
        other => panic!("request {other:?}"),
    }
}

fn versions(fetch: i16) -> Vec<u8> {
    let mut out = vec![0, 0];
    out.extend(3_i32.to_be_bytes());
    for field in [18, 0, 4, 3, 0, 13, 1, 4, fetch] {
        out.extend(field.to_be_bytes());
    }
    out
}

fn string(out: &mut Vec<u8>, text: &str) {
    out.extend((text.len() as i16).to_be_bytes());
    out.extend(text.as_bytes());
}

fn ints(out: &mut Vec<u8>, values: &[i32]) {
    values.iter().for_each(|v| out.extend(v.to_be_bytes()));
}

fn metadata(state: &State) -> Vec<u8> {
    let mut out = Vec::new();
    ints(&mut out, &[0, state.ports.len() as i32]);
    for (node, port) in state.ports.iter().enumerate() {
        ints(&mut out, &[node as i32]);
        string(&mut out, "127.0.0.1");
        ints(&mut out, &[i32::from(*port)]);
        string(&mut out, "rack");
    }
    string(&mut out, "cluster");
    ints(&mut out, &[0, 1]);
    out.extend(state.topic_code.to_be_bytes());
    string(&mut out, TOPIC);
    out.push(0);
    if state.topic_code != 0 {
        ints(&mut out, &[0]);
        return out;
    }
    ints(&mut out, &[1]);
    let code: i16 = if state.leader < 0 { 5 } else { 0 };
    out.extend(code.to_be_bytes());
    ints(&mut out, &[0, state.leader, 9, 1, 0, 1, 0, 0]);
    out
}

fn fetch(mut request: In, node: usize, (state, changed): &(Mutex<State>, Condvar)) -> Vec<u8> {
    let mut field = || request.i32().unwrap();
    let (_replica, max_wait_ms, _min, _max) = (field(), field(), field(), field());
    request.bool().unwrap();
    assert_eq!(
        (request.i32(), request.i32(), request.i32()),
        (Ok(0), Ok(-1), Ok(1))
    );
    assert_eq!(request.string(), Ok(TOPIC));
    assert_eq!(
        (request.i32(), request.i32(), request.i32()),
        (Ok(1), Ok(0), Ok(-1))
    );
    let offset = request.i64().unwrap();
    request.i64().unwrap();
    let max_bytes = request.i32().unwrap();
    let mut state = state.lock().unwrap();
    state
        .fetches
        .push((Instant::now(), node, offset, max_bytes));
    let wrong = |state: &State| match state.leader == node as i32 {
        true => state.fetch_code,
        false => 6,
    };
    if wrong(&state) == 0 && state.end() <= offset {
        let wait = Duration::from_millis(max_wait_ms as u64);
        state = changed.wait_timeout(state, wait).unwrap().0;
    }
    let code = wrong(&state);
    let mut records = Vec::<u8>::new();
    for (last, batch) in &state.batches {
        let fits =
            state.cuts || records.is_empty() || records.len() + batch.len() <= max_bytes as usize;
        if *last >= offset && code == 0 && fits {
            records.extend(batch);
        }
    }
    if state.cuts {
        records.truncate(max_bytes as usize);
    }
    let mut out = Vec::new();
    ints(&mut out, &[state.throttle_ms]);
    out.extend([0, 0]);
    ints(&mut out, &[0, 1]);
    string(&mut out, TOPIC);
    ints(&mut out, &[1, 0]);
    out.extend(code.to_be_bytes());
    [state.end(), state.end(), 0]
        .iter()
        .for_each(|v| out.extend(v.to_be_bytes()));
    ints(&mut out, &[-1, -1, records.len() as i32]);
    out.extend(records);
    out
}

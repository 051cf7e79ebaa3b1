//! A store that is away now and then, and what is asked of it.

use super::*;
use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::client::{HttpError, HttpErrorKind};
use object_store::memory::InMemory;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta,
    PutMultipartOptions, PutOptions, PutResult,
};
use std::fmt;
use std::sync::Mutex;

/// What happens to one request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Luck {
    Good,
    /// It does not arrive.
    Away,
    /// It is done, and the answer is lost.
    Lost,
}

/// Objects in memory behind a line whose luck is scripted; clones share it.
#[derive(Debug, Clone)]
pub(crate) struct Wavering {
    inner: Arc<InMemory>,
    /// Of the next requests; then it is good.
    luck: Arc<Mutex<Vec<Luck>>>,
    /// Whether every request is lost now.
    gone: Arc<AtomicBool>,
    /// It does not know conditional puts.
    old: Arc<AtomicBool>,
}

impl Wavering {
    pub fn new() -> Self {
        Self {
            inner: Arc::new(InMemory::new()),
            luck: Arc::default(),
            gone: Arc::default(),
            old: Arc::default(),
        }
    }

    /// The next requests, the first one first.
    pub fn script(&self, luck: &[Luck]) {
        *self.luck.lock().unwrap() = luck.iter().rev().copied().collect();
    }

    pub fn set_gone(&self, gone: bool) {
        self.gone.store(gone, Relaxed);
    }

    pub fn set_old(&self) {
        self.old.store(true, Relaxed);
    }

    /// A store over it, with little patience.
    pub fn remote(&self) -> Remote {
        self.patient(Duration::from_millis(250))
    }

    /// One that gives up at once.
    pub fn hasty(&self) -> Remote {
        self.patient(Duration::ZERO)
    }

    fn patient(&self, patience: Duration) -> Remote {
        let store = Arc::new(self.clone());
        let mut remote = Remote::over(store, Path::from("a/b"), "memory://a/b").unwrap();
        remote.patience = patience;
        remote
    }

    fn next(&self) -> Luck {
        match self.gone.load(Relaxed) {
            true => Luck::Away,
            false => self.luck.lock().unwrap().pop().unwrap_or(Luck::Good),
        }
    }

    async fn ask<T>(&self, call: impl Future<Output = Answer<T>>) -> Answer<T> {
        match self.next() {
            Luck::Good => call.await,
            Luck::Away => Err(away()),
            Luck::Lost => {
                call.await?;
                Err(away())
            }
        }
    }
}

fn away() -> object_store::Error {
    let source = HttpError::new(HttpErrorKind::Connect, io::Error::other("nobody is there"));
    object_store::Error::Generic {
        store: "test",
        source: Box::new(source),
    }
}

impl fmt::Display for Wavering {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("wavering")
    }
}

#[async_trait]
impl ObjectStore for Wavering {
    async fn put_opts(&self, path: &Path, bytes: PutPayload, o: PutOptions) -> Answer<PutResult> {
        let o = match self.old.load(Relaxed) {
            true => PutOptions::default(),
            false => o,
        };
        self.ask(self.inner.put_opts(path, bytes, o)).await
    }

    async fn put_multipart_opts(
        &self,
        path: &Path,
        o: PutMultipartOptions,
    ) -> Answer<Box<dyn MultipartUpload>> {
        self.ask(self.inner.put_multipart_opts(path, o)).await
    }

    async fn get_opts(&self, path: &Path, o: GetOptions) -> Answer<GetResult> {
        self.ask(self.inner.get_opts(path, o)).await
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, Answer<Path>>,
    ) -> BoxStream<'static, Answer<Path>> {
        match self.next() {
            Luck::Good => self.inner.delete_stream(paths),
            Luck::Away => stream::once(async { Err(away()) }).boxed(),
            Luck::Lost => {
                let done = self.inner.delete_stream(paths);
                done.map(|_| Err(away())).boxed()
            }
        }
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, Answer<ObjectMeta>> {
        match self.next() {
            Luck::Good => self.inner.list(prefix),
            _ => stream::once(async { Err(away()) }).boxed(),
        }
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> Answer<ListResult> {
        self.ask(self.inner.list_with_delimiter(prefix)).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, o: CopyOptions) -> Answer<()> {
        self.ask(self.inner.copy_opts(from, to, o)).await
    }
}

fn kind<T>(result: io::Result<T>) -> ErrorKind {
    result.err().expect("an error").kind()
}

#[test]
fn objects_come_back() {
    let remote = Wavering::new().remote();
    // One request, exactly at the border, and in several parts.
    for size in [1, 2 * PART, 2 * PART + 1, 3 * PART] {
        let bytes: Vec<u8> = (0..size).map(|i| (i / 7) as u8).collect();
        remote.put("x", &bytes).unwrap();
        assert!(remote.get("x").unwrap() == bytes, "{size}");
        let mut file = tempfile::tempfile().unwrap();
        io::Write::write_all(&mut file, &bytes).unwrap();
        remote.upload_all(&[("k=1/y".into(), file)]).unwrap();
        assert!(remote.get("k=1/y").unwrap() == bytes, "{size}");
    }
    let listed = |deep| {
        let mut names = remote.list(deep).unwrap();
        names.sort();
        names
    };
    assert_eq!(listed(false), ["x"]);
    assert_eq!(listed(true), ["k=1/y", "x"]);
    let all = remote.get_all(&["x", "nothing", "k=1/y"]);
    let lengths = all.into_iter().map(|b| b.map(|b| b.len()));
    let lengths: Vec<_> = lengths.map(|b| b.map_err(|e| e.kind())).collect();
    let whole = Ok(3 * PART);
    assert_eq!(lengths, [whole, Err(ErrorKind::NotFound), whole]);
}

#[test]
fn names_are_taken_as_they_are() {
    let remote = Wavering::new().remote();
    for name in [
        "d=2022-01-01 12%3A00/n=%25/.part-0.json.inprogress",
        "k=é/x",
        "a+b&c",
    ] {
        remote.put(name, name.as_bytes()).unwrap();
        assert_eq!(remote.list(true).unwrap(), [name]);
        assert_eq!(remote.get(name).unwrap(), name.as_bytes());
        let to = format!("{name}2");
        let copied = remote.copy_all(&[(name.into(), to.clone())]);
        assert!(copied[0].is_ok());
        remote.delete_all(&[name.into()]).unwrap();
        assert_eq!(remote.list(true).unwrap(), [to.as_str()]);
        remote.delete_all(&[to]).unwrap();
    }
}

#[test]
fn a_whole_bucket_is_a_place_too() {
    let store = Arc::new(Wavering::new());
    let remote = Remote::over(store, Path::default(), "s3://bucket/").unwrap();
    remote.put("x", b"1").unwrap();
    remote.put("k=1/y", b"2").unwrap();
    assert_eq!(remote.list(false).unwrap(), ["x"]);
    assert_eq!(remote.list(true).unwrap(), ["k=1/y", "x"]);
    assert_eq!(remote.get("k=1/y").unwrap(), b"2");
    assert_eq!(remote.url(), "s3://bucket");
}

#[test]
fn an_object_is_created_once() {
    let store = Wavering::new();
    let (ours, theirs) = (store.remote(), store.remote());
    ours.create("x", b"ours").unwrap();
    assert_eq!(
        kind(theirs.create("x", b"theirs")),
        ErrorKind::AlreadyExists
    );
    assert_eq!(theirs.get("x").unwrap(), b"ours");
    // An answer that is lost does not make it somebody else's.
    store.script(&[Luck::Lost]);
    ours.create("y", b"ours").unwrap();
    assert_eq!(ours.get("y").unwrap(), b"ours");
}

#[test]
fn passing_faults_are_waited_for() {
    let store = Wavering::new();
    let remote = store.remote();
    remote.put("x", b"1").unwrap();
    for luck in [Luck::Away, Luck::Lost] {
        let step = |call: &dyn Fn() -> io::Result<()>| {
            store.script(&[luck]);
            call().unwrap();
        };
        step(&|| remote.put("x", b"2"));
        step(&|| remote.get("x").map(|b| assert_eq!(b, b"2")));
        step(&|| remote.list(true).map(|l| assert_eq!(l, ["x"])));
        step(&|| remote.list(false).map(|l| assert_eq!(l, ["x"])));
        step(&|| remote.exists("x").map(|there| assert!(there)));
        step(&|| remote.copy_all(&[("x".into(), "y".into())]).remove(0));
        step(&|| remote.delete_all(&["y".into()]));
    }
    assert_eq!(remote.list(true).unwrap(), ["x"]);
}

#[test]
fn patience_ends_with_what_to_do() {
    let store = Wavering::new();
    let remote = store.remote();
    store.set_gone(true);
    let e = remote.put("x", b"1").unwrap_err();
    assert!(e.to_string().contains("nobody is there"), "{e}");
    assert!(hint(&e).unwrap().contains("start again"), "{e}");
    let mut told = Vec::new();
    let mut wait = |text: &str| {
        told.push(text.to_string());
        true
    };
    let e = remote.probe(&mut wait).unwrap_err();
    assert!(e.to_string().contains("cannot use memory://a/b"), "{e}");
    assert_eq!(e.exit_code(), 1);
    assert_eq!(told[0], "waiting for memory://a/b: nobody is there");
    assert!(
        told.len() > 1 && told[1..].iter().all(String::is_empty),
        "{told:?}"
    );
    // A stop while waiting is no failure.
    let e = remote.probe(&mut |_| false).unwrap_err();
    assert_eq!(e.exit_code(), 0, "{e}");
    store.script(&[Luck::Away]);
    store.set_gone(false);
    let mut told = Vec::new();
    remote
        .probe(&mut |text| {
            told.push(text.to_string());
            true
        })
        .unwrap();
    assert_eq!(told.last().unwrap(), "memory://a/b answers");
}

#[test]
fn addresses_that_make_no_sense() {
    let refused = |url: &str, keys: &Keys| {
        let e = open::store(url, keys).map(drop).unwrap_err();
        assert_eq!(e.exit_code(), 1);
        format!("{e} | {}", e.hint().unwrap_or(""))
    };
    let none = Keys::default();
    assert!(refused("s3://", &none).contains("names no bucket"));
    assert!(refused("ftp://host/x", &none).contains("s3://, gs://"));
    let half = Keys {
        secret_key: Some("TOP-SECRET".into()),
        ..Keys::default()
    };
    let text = refused("s3://bucket/x", &half);
    assert!(text.contains("go together") && !text.contains("TOP-SECRET"));
    assert!(!format!("{half:?}").contains("TOP-SECRET"));
    assert!(is_url("s3://b/x") && !is_url("file:///x") && !is_url("/x"));
    let (_, prefix) = open::store("s3://bucket/a/b/", &none).unwrap();
    assert_eq!(prefix.as_ref(), "a/b");
}

/// What stores answer, as the crate words it.
#[test]
fn answers_in_words() {
    let told = |url: &str, text: &str| {
        let e = object_store::Error::Generic {
            store: "S3",
            source: text.to_string().into(),
        };
        let passing = is_passing(&e);
        let e = io::Error::from(Fault::new(url, Duration::from_secs(61), &e));
        (
            passing,
            e.kind(),
            format!("{e} | {}", hint(&e).unwrap_or("")),
        )
    };
    let status = "Error performing list request: Server returned non-2xx status code: ";
    let (passing, kind, text) = told(
        "s3://b/x",
        &format!(
            "{status}403 Forbidden: <Error><Code>AccessDenied</Code><Message>No.</Message><StringToSign>x</StringToSign></Error>"
        ),
    );
    assert_eq!((passing, kind), (false, ErrorKind::PermissionDenied));
    assert!(
        text.starts_with("AccessDenied: No. | set AWS_ACCESS_KEY_ID"),
        "{text}"
    );
    let (_, _, text) = told("gs://b/x", &format!("{status}401 Unauthorized: "));
    assert!(text.contains("GOOGLE_SERVICE_ACCOUNT"), "{text}");
    let (_, _, text) = told("az://b/x", &format!("{status}403 Forbidden: "));
    assert!(text.contains("AZURE_STORAGE_ACCOUNT_NAME"), "{text}");
    let (passing, kind, text) = told(
        "s3://b/x",
        &format!("{status}404 Not Found: <Code>NoSuchBucket</Code>"),
    );
    assert_eq!((passing, kind), (false, ErrorKind::Other));
    assert!(text.contains("create it"), "{text}");
    for busy in [
        "429 Too Many Requests",
        "500 Internal Server Error",
        "503 Slow Down",
    ] {
        let (passing, _, text) = told("s3://b/x", &format!("{status}{busy}: "));
        assert!(passing && text.contains("(tried for 61 seconds)"), "{text}");
        assert!(text.contains("start again"), "{text}");
    }
    let (passing, kind, text) = told(
        "s3://b/x",
        &format!("{status}400 Bad Request: <Code>ExpiredToken</Code>"),
    );
    assert_eq!((passing, kind), (false, ErrorKind::PermissionDenied));
    assert!(text.contains("set AWS_ACCESS_KEY_ID"), "{text}");
    let (passing, _, text) = told("s3://b/x", &format!("{status}301 Moved: "));
    assert!(!passing && text.contains("AWS_REGION"), "{text}");
    let no_key = "Error performing PUT http://169.254.169.254/latest/api/token in 3s";
    let (passing, _, text) = told("s3://b/x", no_key);
    assert!(
        !passing && text.contains("there are no credentials"),
        "{text}"
    );
}

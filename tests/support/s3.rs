//! A real S3 server over HTTP, started by the tests themselves: S3Proxy over a folder.
//!
//! It checks signatures, knows conditional puts, copies, listings and multipart uploads, and what
//! was stored is there again after a kill. Needs `java` (17 or later) and, for the first run, `mvn`;
//! the jars are kept in `${WINDROW_CACHE:-$HOME/.cache/windrow}/s3proxy-4.1.0`.

use super::broker::{Process, free_ports, jars};
use futures::TryStreamExt;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::{ObjectStore, ObjectStoreExt, PutPayload};
use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::process::Command;
use tokio::runtime::Runtime;

const POM: &str = include_str!("s3/pom.xml");
const LOGBACK: &str = include_str!("s3/logback.xml");

/// A server with its own data. Dropping it kills the process and removes the folder; so does the
/// end of the test process, however it ends.
pub struct S3 {
    home: tempfile::TempDir,
    jars: PathBuf,
    port: u16,
    process: Option<Process>,
}

impl S3 {
    pub const KEY: &str = "tester";
    pub const SECRET: &str = "tester-secret";
    /// A bucket that is there from the start.
    pub const BUCKET: &str = "results";

    pub fn start() -> S3 {
        let home = tempfile::Builder::new()
            .prefix("windrow-s3-")
            .tempdir()
            .expect("a temporary folder");
        fs::create_dir_all(home.path().join("data").join(Self::BUCKET)).expect("make the bucket");
        fs::write(home.path().join("logback.xml"), LOGBACK).expect("write logback.xml");
        let mut s3 = S3 {
            home,
            jars: jars("s3proxy-4.1.0", POM),
            port: 0,
            process: None,
        };
        // A free port can be taken by somebody else before the server binds it.
        for _ in 0..5 {
            s3.port = free_ports(1)[0];
            match s3.launch() {
                Ok(()) => return s3,
                Err(log) if log.contains("Address already in use") => continue,
                Err(log) => panic!("the S3 server did not start:\n{log}"),
            }
        }
        panic!("found no free port for the S3 server in 5 attempts");
    }

    pub fn endpoint(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// The URL of a folder in the bucket.
    pub fn url(&self, folder: &str) -> String {
        format!("s3://{}/{folder}", Self::BUCKET)
    }

    /// What a process needs to know to come here.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![
            ("AWS_ENDPOINT_URL", self.endpoint()),
            ("AWS_ACCESS_KEY_ID", Self::KEY.to_string()),
            ("AWS_SECRET_ACCESS_KEY", Self::SECRET.to_string()),
            ("AWS_REGION", "us-east-1".to_string()),
        ]
    }

    pub fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.end("-KILL");
        }
    }

    /// At the same address, with the same data.
    pub fn restart(&mut self) {
        if let Err(log) = self.launch() {
            panic!("the S3 server did not start again:\n{log}");
        }
    }

    fn launch(&mut self) -> Result<(), String> {
        let home = self.home.path();
        let properties = format!(
            "s3proxy.endpoint={}\ns3proxy.authorization=aws-v4\ns3proxy.identity={}\n\
             s3proxy.credential={}\njclouds.provider=filesystem-nio2\njclouds.filesystem.basedir={}\n",
            self.endpoint(),
            Self::KEY,
            Self::SECRET,
            home.join("data").display()
        );
        fs::write(home.join("s3proxy.conf"), properties).expect("write s3proxy.conf");
        let mut command = Command::new("java");
        command
            .args(["-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"])
            .arg("-Dlogback.configurationFile=logback.xml")
            .arg("-cp")
            .arg(format!("{}/*", self.jars.display()))
            .args(["org.gaul.s3proxy.Main", "--properties", "s3proxy.conf"])
            .current_dir(home);
        let log = home.join("s3.log");
        // A log of an earlier start would tell of a port that was taken then.
        fs::remove_file(&log).ok();
        self.process = Some(Process::launch(command, &log, |line| {
            line.starts_with("INFO Server Started")
        })?);
        Ok(())
    }

    /// A client beside windrow's own way to use the crate.
    pub fn client(&self) -> Client {
        let store = AmazonS3Builder::new()
            .with_endpoint(self.endpoint())
            .with_allow_http(true)
            .with_bucket_name(Self::BUCKET)
            .with_access_key_id(Self::KEY)
            .with_secret_access_key(Self::SECRET)
            .build()
            .expect("a client");
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        Client { store, runtime }
    }
}

impl Drop for S3 {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Reads and writes objects of the bucket.
pub struct Client {
    store: AmazonS3,
    runtime: Runtime,
}

/// So often an answer that breaks off is asked for again.
const BROKEN_MAX: usize = 10;

impl Client {
    /// The names of all objects below a folder, relative to the bucket.
    pub fn list(&self, folder: &str) -> Vec<String> {
        let prefix = object_store::path::Path::from(folder);
        self.whole("list", || {
            let listed = self.store.list(Some(&prefix));
            listed.map_ok(|o| o.location.to_string()).try_collect()
        })
    }

    pub fn get(&self, name: &str) -> Vec<u8> {
        let path = object_store::path::Path::parse(name).expect("a name");
        let bytes = self.whole("get", || async {
            self.store.get(&path).await?.bytes().await
        });
        bytes.to_vec()
    }

    /// An answer. The crate itself waits for a server that is away, but gives up where one is killed
    /// in the middle of a body: a test that kills it failed now and then.
    fn whole<T, F: Future<Output = object_store::Result<T>>>(
        &self,
        what: &str,
        ask: impl Fn() -> F,
    ) -> T {
        let mut broken = 0;
        loop {
            match self.runtime.block_on(ask()) {
                Ok(answer) => return answer,
                Err(object_store::Error::Generic { .. }) if broken < BROKEN_MAX => broken += 1,
                Err(e) => panic!("{what}: {e:?}"),
            }
        }
    }

    pub fn put(&self, name: &str, bytes: &[u8]) {
        let path = object_store::path::Path::parse(name).expect("a name");
        let payload = PutPayload::from(bytes.to_vec());
        let put = self.store.put(&path, payload);
        self.runtime.block_on(put).expect("put");
    }

    /// What a reader sees in a table's folder: its visible files with their bytes, by their names.
    /// (The server itself lists a file that is being written as `<name>-<uuid>`; S3 does not.)
    pub fn visible(&self, folder: &str) -> BTreeMap<String, Vec<u8>> {
        let names = self.list(folder).into_iter();
        let formats = [".json", ".csv", ".parquet"];
        let names = names.filter(|n| formats.iter().any(|f| n.ends_with(f)));
        let shown = names.filter(|n| !n.rsplit('/').next().unwrap().starts_with('.'));
        shown.map(|n| (n.clone(), self.get(&n))).collect()
    }
}

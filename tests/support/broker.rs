//! A real Apache Kafka broker (KRaft, one node or two), started by the tests themselves.
//!
//! Needs `java` (17 or later) and, for the first run, `mvn` to fetch the jars. Everything else
//! (jars, configuration, ports, data) is made here and removed again. The jars are kept in
//! `${WINDROW_CACHE:-$HOME/.cache/windrow}/kafka-4.1.1`.

use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::{Mutex, MutexGuard, OnceLock};
use std::time::Duration;

const VERSION: &str = "4.1.1";
const POM: &str = include_str!("broker/pom.xml");
const LOG4J: &str = include_str!("broker/log4j2.properties");
const SERVER: &str = include_str!("broker/server.properties");
/// Any 16 bytes in base64 will do; this one reads `windrow-test-bkr`.
const CLUSTER_ID: &str = "d2luZHJvdy10ZXN0LWJrcg";
const START_MAX: Duration = Duration::from_secs(90);

/// What a broker offers besides its plain listener.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options {
    /// A second listener with SASL_PLAINTEXT: mechanisms PLAIN and SCRAM-SHA-256,
    /// user [`Broker::SASL_USER`], password [`Broker::SASL_PASSWORD`]; and OAUTHBEARER, which
    /// takes anybody's word for who it is.
    pub sasl: bool,
    /// A listener with TLS for the host 127.0.0.1; see [`Broker::certificate`].
    pub tls: bool,
    /// Whoever logs in may do nothing but what [`super::wire::allow`] grants; the plain listener
    /// may do everything.
    pub acls: bool,
    /// Further lines of the broker's own properties.
    pub more: &'static str,
    /// What its heap may grow to, MB; 512 without.
    pub heap_mb: Option<u32>,
}

/// A broker with its own data folder. Dropping it kills the process and removes the folder; so
/// does the end of the test process, however it ends.
pub struct Broker {
    home: tempfile::TempDir,
    jars: PathBuf,
    port: u16,
    /// Of the cluster's controller: this broker itself, or the one that it has joined.
    controller_port: u16,
    has_joined: bool,
    sasl_port: Option<u16>,
    tls_port: Option<u16>,
    heap_mb: u32,
    process: Option<Process>,
}

impl Broker {
    pub const SASL_USER: &str = "alice";
    pub const SASL_PASSWORD: &str = "alice-secret";
    const STORE_PASSWORD: &str = "store-secret";

    /// A broker of the caller's own, for tests that stop or kill it.
    pub fn start() -> Broker {
        Self::start_with(Options::default())
    }

    pub fn start_with(options: Options) -> Broker {
        Self::start_in(options, None)
    }

    /// A second broker for the cluster, node 2. The first, node 1, is the controller and must not
    /// be stopped while something is asked of the cluster.
    pub fn join(&self) -> Broker {
        Self::start_in(Options::default(), Some(self.controller_port))
    }

    fn start_in(options: Options, joined: Option<u16>) -> Broker {
        let jars = jars(&format!("kafka-{VERSION}"), POM);
        let home = tempfile::Builder::new()
            .prefix("windrow-broker-")
            .tempdir()
            .expect("a temporary folder");
        let mut broker = Broker {
            home,
            jars,
            port: 0,
            controller_port: joined.unwrap_or_default(),
            has_joined: joined.is_some(),
            sasl_port: None,
            tls_port: None,
            heap_mb: options.heap_mb.unwrap_or(512),
            process: None,
        };
        fs::write(broker.home.path().join("log4j2.properties"), LOG4J)
            .expect("write log4j2.properties");
        if options.tls {
            broker.make_certificate();
        }
        // A free port can be taken by somebody else before the broker binds it.
        for _ in 0..5 {
            broker.configure(options);
            broker.format(options);
            match broker.launch() {
                Ok(()) => return broker,
                Err(log) if log.contains("Address already in use") => continue,
                Err(log) => panic!("the Kafka broker did not start:\n{log}"),
            }
        }
        panic!("found no free ports for the Kafka broker in 5 attempts");
    }

    /// One broker for all tests of this process that do not stop it. Use topics of your own.
    pub fn shared() -> &'static Broker {
        static SHARED: OnceLock<Broker> = OnceLock::new();
        SHARED.get_or_init(Broker::start)
    }

    /// `host:port` of the plain listener.
    pub fn bootstrap(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// `host:port` of the SASL listener. Panics unless started with [`Options::sasl`].
    pub fn sasl_bootstrap(&self) -> String {
        format!(
            "127.0.0.1:{}",
            self.sasl_port
                .expect("Broker::start_with(Options { sasl: true })")
        )
    }

    /// Port of the TLS listener. Panics unless started with [`Options::tls`].
    pub fn tls_port(&self) -> u16 {
        self.tls_port
            .expect("Broker::start_with(Options { tls: true, .. })")
    }

    /// PEM file with the certificate of the TLS listener, which nobody else has signed.
    pub fn certificate(&self) -> PathBuf {
        self.home.path().join("broker.pem")
    }

    /// Runs one of Kafka's tools, whose class is named, with `file` in the folder `input.json`.
    pub fn tool(&self, class: &str, args: &[&str], file: &str) {
        fs::write(self.home.path().join("input.json"), file).expect("write input.json");
        let mut command = self.java();
        command
            .arg(class)
            .args(["--bootstrap-server", &self.bootstrap()]);
        let output = command.args(args).output().expect("run java");
        assert!(
            output.status.success(),
            "{class} failed:\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Controlled shutdown (SIGTERM); returns when the process has ended.
    pub fn stop(&mut self) {
        if let Some(process) = self.process.take() {
            process.end("-TERM");
        }
    }

    /// SIGKILL; returns when the process has ended.
    pub fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            process.end("-KILL");
        }
    }

    /// Starts it again after `stop` or `kill`: same ports, same data.
    pub fn restart(&mut self) {
        assert!(
            self.process.is_none(),
            "the broker still runs: stop or kill it first"
        );
        if let Err(log) = self.launch() {
            panic!("the Kafka broker did not start again:\n{log}");
        }
    }

    /// Stops it where it stands (SIGSTOP): it answers nobody, and its connections stay open.
    pub fn freeze(&self) {
        self.signal("-STOP");
    }

    /// Lets it go on after `freeze`.
    pub fn thaw(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, signal: &str) {
        let java = self.process.as_ref().expect("the broker runs").java.id();
        let sent = Command::new("kill")
            .args([signal, &java.to_string()])
            .status();
        assert!(sent.expect("run kill").success());
    }

    /// What the broker has printed so far (warnings and errors).
    pub fn log(&self) -> String {
        fs::read_to_string(self.home.path().join("broker.log")).unwrap_or_default()
    }

    fn configure(&mut self, options: Options) {
        let ports = free_ports(4);
        self.port = ports[0];
        let mut listeners = format!("PLAINTEXT://127.0.0.1:{}", ports[0]);
        let node = match self.has_joined {
            true => "process.roles=broker\nnode.id=2\n",
            false => {
                self.controller_port = ports[1];
                listeners += &format!(",CONTROLLER://127.0.0.1:{}", ports[1]);
                ""
            }
        };
        let mut sasl = String::new();
        if options.sasl {
            self.sasl_port = Some(ports[2]);
            listeners += &format!(",SASL_PLAINTEXT://127.0.0.1:{}", ports[2]);
            sasl = format!(
                "sasl.enabled.mechanisms=PLAIN,SCRAM-SHA-256,OAUTHBEARER\n\
                 listener.name.sasl_plaintext.plain.sasl.jaas.config=org.apache.kafka.common.security.plain.PlainLoginModule required user_{}=\"{}\";\n\
                 listener.name.sasl_plaintext.scram-sha-256.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required;\n\
                 listener.name.sasl_plaintext.oauthbearer.sasl.jaas.config=org.apache.kafka.common.security.oauthbearer.OAuthBearerLoginModule required unsecuredLoginStringClaim_sub=\"broker\";\n",
                Self::SASL_USER,
                Self::SASL_PASSWORD
            );
        }
        let mut tls = String::new();
        if options.tls {
            self.tls_port = Some(ports[3]);
            listeners += &format!(",SSL://127.0.0.1:{}", ports[3]);
            tls = format!(
                "ssl.keystore.type=PKCS12\nssl.keystore.location=broker.p12\nssl.keystore.password={0}\nssl.key.password={0}\n",
                Self::STORE_PASSWORD
            );
        }
        let acls = match options.acls {
            true => {
                "authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer\nsuper.users=User:ANONYMOUS\n"
            }
            false => "",
        };
        let properties = format!(
            "{SERVER}{node}listeners={listeners}\ncontroller.quorum.voters=1@127.0.0.1:{}\nlog.dirs={}\n{sasl}{tls}{acls}{}\n",
            self.controller_port,
            self.home.path().join("data").display(),
            options.more,
        );
        fs::write(self.home.path().join("server.properties"), properties)
            .expect("write server.properties");
    }

    /// A key and its certificate, by the tool that comes with Java.
    fn make_certificate(&self) {
        let store = [
            "-alias",
            "broker",
            "-keystore",
            "broker.p12",
            "-storetype",
            "PKCS12",
            "-storepass",
            Self::STORE_PASSWORD,
        ];
        let make = "-genkeypair -keyalg EC -groupname secp256r1 -validity 36500 -dname CN=broker -ext san=ip:127.0.0.1";
        let export = "-exportcert -rfc -file broker.pem";
        for command in [make, export] {
            let output = Command::new("keytool")
                .args(command.split(' '))
                .args(store)
                .current_dir(self.home.path())
                .output()
                .expect("run keytool");
            assert!(
                output.status.success(),
                "keytool failed:\n{}",
                String::from_utf8_lossy(&output.stdout)
            );
        }
    }

    fn format(&self, options: Options) {
        let data = self.home.path().join("data");
        if data.exists() {
            fs::remove_dir_all(&data).expect("remove the data of the attempt before");
        }
        let mut command = self.java();
        command.args([
            "kafka.tools.StorageTool",
            "format",
            "-t",
            CLUSTER_ID,
            "-c",
            "server.properties",
        ]);
        if options.sasl {
            let user = format!(
                "SCRAM-SHA-256=[name={},password={}]",
                Self::SASL_USER,
                Self::SASL_PASSWORD
            );
            command.args(["--add-scram", &user]);
        }
        let output = command.output().expect("run java");
        assert!(
            output.status.success(),
            "kafka.tools.StorageTool failed:\n{}",
            String::from_utf8_lossy(&output.stderr)
        );
    }

    /// Starts the process and waits for its "started" line. The error is what it printed.
    fn launch(&mut self) -> Result<(), String> {
        let mut command = self.java();
        command.args(["kafka.Kafka", "server.properties"]);
        let log = self.home.path().join("broker.log");
        let process =
            Process::launch(command, &log, |line| line.ends_with("Kafka Server started"))?;
        self.process = Some(process);
        Ok(())
    }

    fn java(&self) -> Command {
        let mut command = Command::new("java");
        command
            .arg(format!("-Xmx{}m", self.heap_mb))
            .args([
                "-XX:+UseSerialGC",
                "-XX:TieredStopAtLevel=1",
                "-Dlog4j2.configurationFile=log4j2.properties",
            ])
            .arg("-cp")
            .arg(format!("{}/*", self.jars.display()))
            .current_dir(self.home.path());
        command
    }
}

impl Drop for Broker {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A running server and the shell that ends it when this process is gone.
pub(super) struct Process {
    pub java: Child,
    guard: Guard,
}

impl Process {
    /// Starts a server, appends what it prints to `log`, and waits for the line that says it
    /// has `started`. The folder of the log is removed when this process ends. The error is the log.
    pub fn launch(
        mut command: Command,
        log: &Path,
        started: fn(&str) -> bool,
    ) -> Result<Process, String> {
        // Its own process group: Ctrl-C reaches the tests, and the guard ends the server.
        let mut java = command
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("run java");
        let guard = Guard::over(java.id(), log.parent().expect("a folder"));
        let output = java.stdout.take().expect("stdout is piped");
        let mut file = File::options()
            .create(true)
            .append(true)
            .open(log)
            .expect("open the log");
        let (sender, wait) = mpsc::sync_channel(1);
        std::thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                if writeln!(file, "{line}").is_err() {
                    break;
                }
                if started(&line) && sender.send(()).is_err() {
                    break;
                }
            }
        });
        let process = Process { java, guard };
        let reason = match wait.recv_timeout(START_MAX) {
            Ok(()) => return Ok(process),
            Err(RecvTimeoutError::Timeout) => format!("no sign of life within {START_MAX:?}"),
            Err(RecvTimeoutError::Disconnected) => "the process ended".to_string(),
        };
        process.end("-KILL");
        let log = fs::read_to_string(log).unwrap_or_default();
        Err(format!("{reason}\n{log}"))
    }

    pub fn end(mut self, signal: &str) {
        let sent = Command::new("kill")
            .arg(signal)
            .arg(self.java.id().to_string())
            .stderr(Stdio::null())
            .status();
        sent.expect("run kill");
        self.java.wait().expect("wait for the server");
        self.guard.dismiss();
    }
}

/// A shell that waits for the end of its standard input, which this process holds open: when
/// the process ends, by whatever signal, the shell kills the broker and removes its folder.
/// (PR_SET_PDEATHSIG would not do: it fires when the test's *thread* ends.)
struct Guard {
    shell: Child,
    _open: ChildStdin,
}

impl Guard {
    fn over(pid: u32, folder: &Path) -> Guard {
        let script = r#"trap '' INT TERM HUP; read -r _; kill -KILL "$0"; rm -rf "$1""#;
        let mut shell = Command::new("sh")
            .args(["-c", script, &pid.to_string()])
            .arg(folder)
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("run sh");
        let open = shell.stdin.take().expect("stdin is piped");
        Guard { shell, _open: open }
    }

    /// The broker has ended by itself: nothing to guard.
    fn dismiss(&mut self) {
        self.shell.kill().expect("end the guard");
        self.shell.wait().expect("wait for the guard");
    }
}

pub(super) fn free_ports(count: usize) -> Vec<u16> {
    let listeners: Vec<_> = (0..count)
        .map(|_| TcpListener::bind("127.0.0.1:0").expect("a free port"))
        .collect();
    listeners
        .iter()
        .map(|l| l.local_addr().expect("a bound port").port())
        .collect()
}

/// The folder of the jars; fetches them the first time. Two test processes fetch once.
pub(super) fn jars(name: &str, pom: &str) -> PathBuf {
    let cache = match std::env::var_os("WINDROW_CACHE") {
        Some(folder) => PathBuf::from(folder),
        None => {
            PathBuf::from(std::env::var_os("HOME").expect("HOME is set")).join(".cache/windrow")
        }
    };
    let folder = cache.join(name);
    fs::create_dir_all(&folder).expect("create the cache folder");
    // Threads of one process share the file lock, so they need a lock of their own.
    let _threads = lock_threads();
    let lock = File::create(folder.join("lock")).expect("create the lock file");
    lock.lock().expect("lock the cache folder");
    require_tools();
    let jars = folder.join("libs");
    // The marker is written last: without it, whatever is there is half a download.
    let complete = folder.join("complete");
    if !complete.exists() {
        if jars.exists() {
            fs::remove_dir_all(&jars).expect("remove a half download");
        }
        fetch(&folder, pom, &jars);
        fs::write(&complete, name).expect("write the marker");
    }
    jars
}

fn lock_threads() -> MutexGuard<'static, ()> {
    static THREADS: Mutex<()> = Mutex::new(());
    THREADS
        .lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
}

fn fetch(folder: &Path, text: &str, jars: &Path) {
    let pom = folder.join("pom.xml");
    fs::write(&pom, text).expect("write pom.xml");
    let output = Command::new("mvn")
        .args([
            "-B",
            "-q",
            "dependency:copy-dependencies",
            "-DincludeScope=runtime",
        ])
        .arg(format!("-DoutputDirectory={}", jars.display()))
        .arg("-f")
        .arg(&pom)
        .output()
        .expect("run mvn");
    assert!(
        output.status.success(),
        "mvn could not fetch {} (is Maven Central, or the mirror in ~/.m2/settings.xml, in reach?):\n{}",
        folder.display(),
        String::from_utf8_lossy(&output.stdout)
    );
}

fn require_tools() {
    let missing = || ["java", "mvn"].into_iter().find(|tool| !on_path(tool));
    if missing().is_none() {
        return;
    }
    let root = Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|o| o.stdout == b"0\n");
    if root && Path::new("/etc/debian_version").exists() {
        let script = "apt-get update -q && apt-get install -q -y --no-install-recommends default-jre-headless maven";
        let installed = Command::new("sh")
            .args(["-c", script])
            .stdin(Stdio::null())
            .output()
            .expect("run sh");
        assert!(
            installed.status.success(),
            "apt-get could not install java and mvn:\n{}",
            String::from_utf8_lossy(&installed.stderr)
        );
    }
    if let Some(tool) = missing() {
        panic!(
            "{tool} is missing; the tests that need a Kafka broker or an S3 server want Java 17+ and Maven: apt-get install default-jre-headless maven, or brew install openjdk maven"
        );
    }
}

fn on_path(tool: &str) -> bool {
    std::env::var_os("PATH")
        .is_some_and(|path| std::env::split_paths(&path).any(|folder| folder.join(tool).is_file()))
}

#[cfg(test)]
mod tests {
    use super::super::client;
    use super::*;

    #[test]
    fn data_survive_stop_and_kill() {
        let mut broker = Broker::start();
        let bootstrap = broker.bootstrap();
        client::create_topic(&bootstrap, "kept", 2);
        client::produce(&bootstrap, "kept", 1, &["a"]);
        broker.stop();
        broker.restart();
        assert_eq!(bootstrap, broker.bootstrap());
        client::produce(&bootstrap, "kept", 1, &["b"]);
        broker.kill();
        broker.restart();
        assert_eq!(
            client::read_all(&bootstrap, "kept"),
            [(1, "a".to_string()), (1, "b".to_string())]
        );
    }

    #[test]
    fn sasl_listener_wants_the_password() {
        let broker = Broker::start_with(Options {
            sasl: true,
            ..Options::default()
        });
        for mechanism in ["PLAIN", "SCRAM-SHA-256"] {
            let mut config = client::config(&broker.sasl_bootstrap());
            config
                .set("security.protocol", "SASL_PLAINTEXT")
                .set("sasl.mechanism", mechanism)
                .set("sasl.username", Broker::SASL_USER)
                .set("sasl.password", Broker::SASL_PASSWORD);
            assert_eq!(client::topic_count(&config), Ok(0), "{mechanism}");
            config.set("sasl.password", "wrong");
            assert!(client::topic_count(&config).is_err(), "{mechanism}");
        }
    }

    #[test]
    fn dropping_it_leaves_nothing_behind() {
        let broker = Broker::start();
        let (home, pid) = (
            broker.home.path().to_path_buf(),
            broker.process.as_ref().map(|p| p.java.id()),
        );
        drop(broker);
        assert!(!home.exists());
        let alive = Command::new("kill")
            .args(["-0", &pid.unwrap().to_string()])
            .stderr(Stdio::null())
            .status()
            .unwrap();
        assert!(!alive.success());
    }
}

//! PostgreSQL, MariaDB and Redis, servers and clients as Debian has them, each behind a sidecar of its own and before another one, with mutual TLS between them.
//! Of three protocols in one the server speaks first (MySQL), in one its client does after a moment (PostgreSQL, by a packet that is no HTTP), in one at
//! once and in words (Redis).

use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::{Instant, sleep, timeout};
use traffic_core::config::Protocol;

use super::{PATIENCE, command, said};
use crate::mesh::counts;
use crate::mtls::{Chosen, Pair};

const SECRET: &str = "nobody-may-read-this";
/// Rows of a large result, and what is in each.
const ROWS: usize = 20_000;
const WIDTH: usize = 200;

/// A server in a process of its own, with a folder that goes with it.
struct Database {
    process: Child,
    address: SocketAddr,
    folder: PathBuf,
}

impl Drop for Database {
    fn drop(&mut self) {
        let _ = self.process.start_kill();
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// Whom a server runs as that refuses to be root: `nobody`, if we are root.
struct User {
    id: Option<u32>,
}

impl User {
    fn of_tests(folder: &Path) -> User {
        let is_root =
            fs::metadata(folder).is_ok_and(|it| std::os::unix::fs::MetadataExt::uid(&it) == 0);
        let id = is_root.then_some(65_534);
        if let Some(id) = id {
            chown(folder, Some(id), Some(id)).unwrap();
        }
        User { id }
    }

    fn runs(&self, program: impl AsRef<std::ffi::OsStr>, arguments: &[&str]) -> Command {
        let Some(id) = self.id else {
            return command(program, arguments);
        };
        let mut command = command("setpriv", &[]);
        command
            .args([format!("--reuid={id}"), format!("--regid={id}")])
            .arg("--clear-groups")
            .arg(program)
            .args(arguments);
        command
    }
}

/// A folder for one server, under a short path: there are sockets in it.
fn folder(name: &str) -> PathBuf {
    let folder = std::env::temp_dir().join(format!("aviary-{name}-{}", std::process::id()));
    let _ = fs::remove_dir_all(&folder);
    fs::create_dir_all(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
    folder
}

async fn free_port() -> u16 {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
    listener.local_addr().unwrap().port()
}

/// A program of Debian's, which may be in a folder that is on nobody's path.
fn program(name: &str, folders: &str) -> PathBuf {
    let of_version = fs::read_dir(folders).into_iter().flatten().flatten();
    let found = of_version.map(|each| each.path().join("bin").join(name));
    found
        .filter(|path| path.exists())
        .max()
        .unwrap_or_else(|| PathBuf::from(name))
}

impl Database {
    async fn listening(mut command: Command, port: u16, folder: PathBuf) -> Database {
        let log = fs::File::create(folder.join("log")).unwrap();
        command
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .kill_on_drop(true);
        let shown = format!("{command:?}");
        let process = command.spawn().unwrap_or_else(|error| {
            panic!("cannot run {shown}: {error}; `make conformance` installs it")
        });
        let mut database = Database {
            process,
            address: (Ipv4Addr::LOCALHOST, port).into(),
            folder,
        };
        let deadline = Instant::now() + PATIENCE;
        while TcpStream::connect(database.address).await.is_err() {
            let log = || fs::read_to_string(database.folder.join("log")).unwrap_or_default();
            if let Some(status) = database.process.try_wait().unwrap() {
                panic!("{shown} ended with {status}:\n{}", log());
            }
            assert!(
                Instant::now() < deadline,
                "{shown} does not listen:\n{}",
                log()
            );
            sleep(std::time::Duration::from_millis(20)).await;
        }
        database
    }

    async fn postgresql() -> Database {
        let (folder, port) = (folder("pg"), free_port().await);
        let user = User::of_tests(&folder);
        let data = folder.join("data");
        let data = data.to_str().unwrap();
        let bin = "/usr/lib/postgresql";
        let options = [
            "-D",
            data,
            "-U",
            "app",
            "-A",
            "trust",
            "--no-sync",
            "--locale=C",
        ];
        said(user.runs(program("initdb", bin), &options)).await;
        let (port_text, sockets) = (port.to_string(), folder.to_str().unwrap());
        let options = ["-D", data, "-p", &port_text, "-k", sockets, "-F"];
        let server = user.runs(program("postgres", bin), &options);
        Database::listening(server, port, folder).await
    }

    async fn mariadb() -> Database {
        let (folder, port) = (folder("my"), free_port().await);
        let user = User::of_tests(&folder);
        let at = |name: &str| folder.join(name).to_str().unwrap().to_owned();
        let data = format!("--datadir={}", at("data"));
        let options = [
            "--no-defaults",
            &data,
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
        ];
        said(user.runs("mariadb-install-db", &options)).await;
        let (socket, port_text) = (format!("--socket={}", at("s")), format!("--port={port}"));
        let pid = format!("--pid-file={}", at("pid"));
        let options = [
            "--no-defaults",
            &data,
            &socket,
            &port_text,
            &pid,
            "--bind-address=127.0.0.1",
            "--skip-name-resolve",
        ];
        let server = user.runs("/usr/sbin/mariadbd", &options);
        Database::listening(server, port, folder).await
    }

    async fn redis() -> Database {
        let (folder, port) = (folder("redis"), free_port().await);
        let (port_text, dir) = (port.to_string(), folder.to_str().unwrap().to_owned());
        let options = [
            "--port",
            &port_text,
            "--bind",
            "127.0.0.1",
            "--save",
            "",
            "--dir",
            &dir,
        ];
        let server = command("redis-server", &options);
        Database::listening(server, port, folder).await
    }

    /// By a signal, with its clients connected.
    async fn ends(&mut self, signal: &str) {
        let id = self.process.id().expect("it runs").to_string();
        said(command("kill", &["-s", signal, &id])).await;
        let ended = timeout(PATIENCE, self.process.wait()).await;
        ended.expect("the server ends").unwrap();
    }
}

/// A client that stays, and answers each line with one.
struct Session {
    _process: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
}

impl Session {
    fn begin(mut command: Command) -> Session {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let shown = format!("{command:?}");
        let mut process = command.spawn().unwrap_or_else(|error| {
            panic!("cannot run {shown}: {error}; `make conformance` installs it")
        });
        let output = process.stdout.take().unwrap();
        Session {
            input: process.stdin.take().unwrap(),
            output: BufReader::new(output).lines(),
            _process: process,
        }
    }

    /// The answer to a line; `None`: it has ended.
    async fn ask(&mut self, line: &str) -> Option<String> {
        let line = format!("{line}\n");
        if self.input.write_all(line.as_bytes()).await.is_err() {
            return None;
        }
        let answer = timeout(PATIENCE, self.output.next_line()).await;
        answer.expect("an answer, or an end").unwrap()
    }
}

/// Two sidecars before it, of which the calling one knows nothing of the protocol, or is told.
async fn before(database: &Database, protocol: Protocol) -> Pair {
    Pair::of_one_mesh(database.address, Chosen::speaking(protocol)).await
}

/// Everything was carried as bytes, and nobody could read along.
fn assert_carried(pair: &Pair, connections: u64) {
    let [opened, failed, left, unsent] = counts(&pair.calling.arm("v1").connections);
    assert!(opened >= connections, "{opened} connections");
    assert_eq!([failed, left, unsent], [0; 3]);
    assert_eq!(counts(&pair.calling.arm("v1").requests), [0; 4]);
    assert!(pair.tap.bytes() > ROWS * WIDTH, "{}", pair.tap.bytes());
    assert!(!pair.tap.has_seen(SECRET), "it could be read");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs postgresql: make conformance"]
async fn postgresql_s_clients_pass_two_sidecars() {
    let mut database = Database::postgresql().await;
    for protocol in [Protocol::Detect, Protocol::Opaque] {
        let pair = before(&database, protocol).await;
        let port = pair.calling.outbound.port().to_string();
        let psql = |extra: &[&str]| {
            let options = [
                "-X",
                "-q",
                "-t",
                "-A",
                "-h",
                "127.0.0.1",
                "-p",
                &port,
                "-U",
                "app",
            ];
            let mut command = command("psql", &options);
            command.args(extra).arg("postgres");
            command
        };
        let mut idle = Session::begin(psql(&[]));
        let secret = format!("select '{SECRET}';");
        assert_eq!(idle.ask(&secret).await.as_deref(), Some(SECRET));
        let large = format!("select repeat('x', {WIDTH}) from generate_series(1, {ROWS})");
        let rows = said(psql(&["-c", &large])).await;
        assert_eq!(rows.lines().filter(|row| row.len() == WIDTH).count(), ROWS);
        // As many as can be are sent at once, and come back.
        let copied = format!(
            "create temp table t (x text); copy t from program 'seq {ROWS}'; select count(*), sum(x::int) from t"
        );
        let sum = ROWS * (ROWS + 1) / 2;
        assert_eq!(
            said(psql(&["-c", &copied])).await.trim(),
            format!("{ROWS}|{sum}")
        );
        // A pool: eight connections that stay, each with many transactions; then one connection for each transaction.
        let bench = program("pgbench", "/usr/lib/postgresql");
        for extra in [&["-t", "100"][..], &["-t", "20", "-C"]] {
            let options = [
                "-n",
                "-S",
                "-c",
                "8",
                "-h",
                "127.0.0.1",
                "-p",
                &port,
                "-U",
                "app",
            ];
            let prepare = [
                "-i",
                "-q",
                "-h",
                "127.0.0.1",
                "-p",
                &port,
                "-U",
                "app",
                "postgres",
            ];
            said(command(&bench, &prepare)).await;
            let mut run = command(&bench, &options);
            run.args(extra).arg("postgres");
            let text = said(run).await;
            assert!(text.contains("number of failed transactions: 0"), "{text}");
        }
        // Meanwhile nothing was said here.
        assert_eq!(idle.ask("select 1;").await.as_deref(), Some("1"));
        assert_carried(&pair, 8 * 20);
        if protocol == Protocol::Opaque {
            // Not when the last client is gone, but now.
            database.ends("INT").await;
            assert_eq!(idle.ask("select 1;").await, None);
            let refused = super::run(psql(&["-c", "select 1"])).await;
            assert!(!refused.is_success, "{}", refused.out);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs mariadb-server: make conformance"]
async fn mysql_s_clients_pass_two_sidecars() {
    let mut database = Database::mariadb().await;
    for protocol in [Protocol::Detect, Protocol::Opaque] {
        let pair = before(&database, protocol).await;
        let port = format!("--port={}", pair.calling.outbound.port());
        let client = |name: &str, extra: &[&str]| {
            let options = [
                "--no-defaults",
                "--protocol=tcp",
                "--host=127.0.0.1",
                &port,
                "--user=root",
            ];
            let mut command = command(name, &options);
            command.args(extra);
            command
        };
        let mut idle = Session::begin(client("mariadb", &["-N", "-B", "-n"]));
        let secret = format!("select '{SECRET}';");
        assert_eq!(idle.ask(&secret).await.as_deref(), Some(SECRET));
        let large = format!("select repeat('x', {WIDTH}) from seq_1_to_{ROWS}");
        let rows = said(client("mariadb", &["-N", "-B", "-e", &large, "mysql"])).await;
        assert_eq!(rows.lines().filter(|row| row.len() == WIDTH).count(), ROWS);
        let slap = [
            "--concurrency=8",
            "--number-of-queries=800",
            "--create-schema=slap",
            "--auto-generate-sql",
        ];
        let text = said(client("mariadb-slap", &slap)).await;
        assert!(
            text.contains("Number of clients running queries: 8"),
            "{text}"
        );
        // A connection for each few queries.
        let each = [
            "--concurrency=4",
            "--number-of-queries=200",
            "--detach=5",
            "--create-schema=slap",
            "--auto-generate-sql",
        ];
        said(client("mariadb-slap", &each)).await;
        assert_eq!(idle.ask("select 1;").await.as_deref(), Some("1"));
        assert_carried(&pair, 40);
        if protocol == Protocol::Opaque {
            database.ends("TERM").await;
            assert_eq!(idle.ask("select 1;").await, None);
            let refused = super::run(client("mariadb", &["-e", "select 1"])).await;
            assert!(!refused.is_success, "{}", refused.out);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "needs redis-server: make conformance"]
async fn redis_clients_pass_two_sidecars() {
    let mut database = Database::redis().await;
    for protocol in [Protocol::Detect, Protocol::Opaque] {
        let pair = before(&database, protocol).await;
        let port = pair.calling.outbound.port().to_string();
        let client = |extra: &[&str]| {
            let mut command = command("redis-cli", &["-h", "127.0.0.1", "-p", &port]);
            command.args(extra);
            command
        };
        let mut idle = Session::begin(client(&[]));
        assert_eq!(
            idle.ask(&format!("set secret {SECRET}")).await.as_deref(),
            Some("OK")
        );
        let got = said(client(&["get", "secret"])).await;
        assert_eq!(got.trim(), SECRET);
        // A large value, and a large answer.
        let size = (ROWS * WIDTH).to_string();
        said(client(&["setrange", "large", &size, "x"])).await;
        let large = said(client(&["--no-raw", "strlen", "large"])).await;
        assert_eq!(large.trim(), format!("(integer) {}", ROWS * WIDTH + 1));
        let large = said(client(&["get", "large"])).await;
        assert!(large.len() > ROWS * WIDTH);
        // A pool of twenty that pipelines, and a connection for each request.
        for extra in [["-n", "2000", "-P", "8"], ["-n", "200", "-k", "0"]] {
            let options = [
                "-h",
                "127.0.0.1",
                "-p",
                &port,
                "-c",
                "20",
                "-t",
                "set,get",
                "--csv",
            ];
            let mut bench = command("redis-benchmark", &options);
            bench.args(extra);
            let text = said(bench).await;
            assert!(text.contains("GET"), "{text}");
        }
        assert_eq!(idle.ask("ping").await.as_deref(), Some("PONG"));
        assert_carried(&pair, 20);
        if protocol == Protocol::Opaque {
            database.ends("TERM").await;
            let refused = super::run(client(&["ping"])).await;
            assert!(!refused.is_success, "{}", refused.out);
        }
    }
}

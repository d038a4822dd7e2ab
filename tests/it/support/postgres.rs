//! A PostgreSQL server of a test's own: made anew, on a socket in its own directory, gone with the fixture. The machine's own
//! clusters are neither started nor changed.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// Longest wait for the server to take connections, or to end.
const PATIENCE: Duration = Duration::from_secs(60);

/// Who the server runs as where the tests run as root, which it refuses: the package makes that account.
const ACCOUNT: &str = "postgres";

/// The server. Dropping it ends it and removes all that it kept.
#[derive(Debug)]
pub struct Server {
    dir: tempfile::TempDir,
    process: Option<Child>,
    settings: Vec<String>,
    port: u16,
}

impl Server {
    /// Makes a cluster and starts it.
    pub fn start() -> Self {
        Self::start_with(&[])
    }

    /// As [`Self::start`], with settings such as `fsync=off`.
    pub fn start_with(settings: &[&'static str]) -> Self {
        // A socket's path is at most 107 bytes.
        let dir = tempfile::Builder::new().prefix("pg").tempdir().unwrap();
        if let Some((user, group)) = account() {
            chown(dir.path(), Some(user), Some(group)).unwrap();
        }
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let made = command("initdb")
            .arg("-D")
            .arg(dir.path().join("data"))
            .args(["-U", "lockstep", "-A", "trust", "-E", "UTF8"])
            .args(["--locale=C", "--no-sync", "--no-instructions"])
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&made.stderr);
        assert!(made.status.success(), "{said}");
        let mut server = Self {
            dir,
            process: None,
            settings: settings.iter().map(|text| (*text).to_owned()).collect(),
            port: 5432,
        };
        server.restart();
        server
    }

    /// As [`Self::start`], also at [`Self::tcp_url`], where it shows that certificate (PEM).
    pub fn start_encrypted(certificate: &str, key: &str) -> Self {
        let mut server = Self::start();
        server.stop();
        for (name, text) in [("cert.pem", certificate), ("key.pem", key)] {
            let file = server.dir.path().join(name);
            fs::write(&file, text).unwrap();
            fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
            if let Some((user, group)) = account() {
                chown(&file, Some(user), Some(group)).unwrap();
            }
            let setting = name.trim_end_matches(".pem");
            let setting = format!("ssl_{setting}_file={}", file.display());
            server.settings.push(setting);
        }
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        server.port = free.local_addr().unwrap().port();
        drop(free);
        let more = ["ssl=on", "listen_addresses=127.0.0.1"].map(str::to_owned);
        server.settings.extend(more);
        server.restart();
        server
    }

    /// Where it is by TCP, under the name `localhost`.
    pub fn tcp_url(&self) -> String {
        format!("postgresql://lockstep@localhost:{}/postgres", self.port)
    }

    /// Starts the server again and waits until it answers.
    pub fn restart(&mut self) {
        self.stop();
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.dir.path().join("log"))
            .unwrap();
        let mut command = command("postgres");
        command
            .arg("-D")
            .arg(self.dir.path().join("data"))
            .arg("-k")
            .arg(self.dir.path())
            .args(["-h", "", "-c", "shared_buffers=16MB", "-p"])
            .arg(self.port.to_string())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        for setting in &self.settings {
            command.args(["-c", setting]);
        }
        self.process = Some(command.spawn().unwrap());
        let began = Instant::now();
        while !self.answers() {
            let said = fs::read_to_string(self.dir.path().join("log")).unwrap();
            assert!(began.elapsed() < PATIENCE, "no server: {said}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    fn answers(&self) -> bool {
        let asked = command("psql")
            .args(["-XqAt", "-c", "SELECT 1", &self.url()])
            .output()
            .unwrap();
        asked.status.success()
    }

    /// What psql says to a statement, as the database's owner.
    pub fn say(&self, statement: &str) -> String {
        let output = command("psql")
            .args(["-XqAt", "-v", "ON_ERROR_STOP=1", "-c", statement])
            .arg(self.url())
            .output()
            .unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{statement}: {said}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    /// Waits until psql says that to a statement.
    pub fn until(&self, statement: &str, wanted: &str) {
        let began = Instant::now();
        while self.say(statement) != wanted {
            assert!(began.elapsed() < PATIENCE, "never {wanted}: {statement}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// Where it is, for the store.
    pub fn url(&self) -> String {
        let dir = self.dir.path().display();
        let port = self.port;
        format!("postgresql://lockstep@/postgres?host={dir}&port={port}")
    }

    /// Ends it as a power cut would: no process of it does anything more.
    pub fn kill(&mut self) {
        // The postmaster first, so that it starts nobody anew; the others end when they see that it is gone.
        self.signal(Signal::KILL);
        if let Some(mut process) = self.process.take() {
            let _ended = process.wait();
        }
        let lock = self.dir.path().join("data/postmaster.pid");
        let began = Instant::now();
        while self.answers() {
            assert!(began.elapsed() < PATIENCE, "it goes on");
        }
        let _may_be_gone = fs::remove_file(lock);
    }

    /// Ends it at once, all of its processes, and waits until it has.
    pub fn stop(&mut self) {
        self.signal(Signal::QUIT);
        if let Some(mut process) = self.process.take() {
            let _ended = process.wait();
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(process) = &self.process {
            let id = i32::try_from(process.id()).unwrap();
            let _may_be_gone = kill_process(Pid::from_raw(id).unwrap(), signal);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.stop();
    }
}

/// A program of the newest server that is installed, without root's rights, and ended when this process ends.
fn command(program: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "QUIT"]);
    if account().is_some() {
        let user = ["--reuid", ACCOUNT, "--regid", ACCOUNT, "--clear-groups"];
        command.args(user);
    }
    command.arg(programs().join(program)).current_dir("/");
    command
}

fn programs() -> PathBuf {
    let versions = fs::read_dir("/usr/lib/postgresql").into_iter().flatten();
    let number = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let newest = versions
        .filter_map(|entry| Some(entry.ok()?.path()))
        .filter(|path| path.join("bin/initdb").exists())
        .max_by_key(|path| number(path));
    newest
        .expect("PostgreSQL is missing: `make test` installs it")
        .join("bin")
}

/// User and group of [`ACCOUNT`], if this is root.
fn account() -> Option<(u32, u32)> {
    if !rustix::process::geteuid().is_root() {
        return None;
    }
    let accounts = fs::read_to_string("/etc/passwd").unwrap();
    let line = accounts
        .lines()
        .find_map(|line| line.strip_prefix(&format!("{ACCOUNT}:")))
        .expect("the package makes the account");
    let mut fields = line.split(':').skip(1);
    let mut number = || fields.next().unwrap().parse().unwrap();
    Some((number(), number()))
}

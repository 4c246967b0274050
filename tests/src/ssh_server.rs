//! Ssh server: OpenSSH's own, on loopback, for tests that fetch repositories over ssh.
//!
//! We accept, and each connection gets an `sshd -i` of its own: no port is chosen in advance, no service runs, and nothing is left behind.

use std::{
    fs,
    io::Write,
    net::{SocketAddr, TcpListener, TcpStream},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use crate::{daemon::run, fixture::text, peers::peer};

/// Where OpenSSH looks for the keys of hosts that everybody on this machine trusts.
const KNOWN_HOSTS: &str = "/etc/ssh/ssh_known_hosts";

/// Makes a key without a passphrase; where it is, its public half beside it.
pub fn key(dir: &Path, name: &str) -> PathBuf {
    let path = dir.join(name);
    run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-C", name, "-f"]).arg(&path)).ok();
    path
}

/// A server that lets one key in, as root.
#[derive(Debug)]
pub struct SshServer {
    address: SocketAddr,
    dir: tempfile::TempDir,
    stopped: Arc<AtomicBool>,
}

impl SshServer {
    /// Starts one for the owner of `key`.
    pub fn start(client: &Path) -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let host = key(dir.path(), "host");
        let config = format!(
            "HostKey {}\nAuthorizedKeysFile {}.pub\nStrictModes no\nUsePAM no\nPermitRootLogin yes\n\
             PasswordAuthentication no\nKbdInteractiveAuthentication no\nPidFile none\nPrintMotd no\n",
            text(&host),
            text(client)
        );
        fs::write(dir.path().join("config"), config).expect("its configuration");
        // It goes there to give up its privileges, and does not make it.
        fs::create_dir_all("/run/sshd").expect("a folder");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("bound");
        let stopped = Arc::new(AtomicBool::new(false));
        let (over, config) = (stopped.clone(), dir.path().join("config"));
        std::thread::spawn(move || {
            for connection in listener.incoming() {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                serve(connection.expect("a connection"), &config);
            }
        });
        Self { address, dir, stopped }
    }

    /// The URL of a path.
    pub fn url(&self, path: &Path) -> String {
        format!("ssh://root@{}{}", self.address, text(path))
    }

    /// Lets this machine trust the server, with the key that it has or with another, as long as the value lives.
    pub fn trusted(&self, honestly: bool) -> Trust {
        let file = if honestly { self.dir.path().join("host") } else { key(self.dir.path(), "another") };
        let public = fs::read_to_string(file.with_extension("pub")).expect("a public key");
        let line = format!("[{}]:{} {}", self.address.ip(), self.address.port(), public.trim());
        let mut known = fs::read_to_string(KNOWN_HOSTS).unwrap_or_default();
        if !known.is_empty() && !known.ends_with('\n') {
            known.push('\n');
        }
        fs::create_dir_all("/etc/ssh").expect("a folder");
        fs::write(KNOWN_HOSTS, format!("{known}{line}\n")).expect("a host that is known");
        Trust { line }
    }
}

impl Drop for SshServer {
    fn drop(&mut self) {
        self.stopped.store(true, Ordering::SeqCst);
        let _ = TcpStream::connect(self.address);
    }
}

fn serve(connection: TcpStream, config: &Path) {
    let input = std::os::fd::OwnedFd::from(connection.try_clone().expect("a descriptor"));
    let output = std::os::fd::OwnedFd::from(connection);
    // Called by its whole path, as it insists on.
    let mut server = Command::new(peer("sshd").get_program());
    server.args(["-i", "-f"]).arg(config).stdin(Stdio::from(input)).stdout(Stdio::from(output));
    let mut server = server.stderr(Stdio::null()).spawn().expect("start sshd");
    std::thread::spawn(move || server.wait());
}

/// A line of the hosts that this machine knows; it goes with the value.
#[derive(Debug)]
pub struct Trust {
    line: String,
}

impl Drop for Trust {
    fn drop(&mut self) {
        let known = fs::read_to_string(KNOWN_HOSTS).unwrap_or_default();
        let left: Vec<&str> = known.lines().filter(|line| *line != self.line).collect();
        let _ = match left.is_empty() {
            true => fs::remove_file(KNOWN_HOSTS),
            false => fs::File::create(KNOWN_HOSTS).and_then(|mut file| writeln!(file, "{}", left.join("\n"))),
        };
    }
}

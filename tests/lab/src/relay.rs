//! A real coturn on a host.

use std::{
    fmt::Write as _,
    fs,
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use crate::{Error, Host, Lab, Process, namespace::command};

/// One user is enough.
const USER: &str = "user";
const PASSWORD: &str = "lab";
/// The usual ports of TURN and of TURN over TLS (RFC 8656, section 4).
const PORT: u16 = 3478;
const TLS_PORT: u16 = 5349;
/// What coturn may take to start.
const PATIENCE: Duration = Duration::from_secs(20);

/// A TURN server for UDP, TCP and TLS, until it is dropped.
#[derive(Debug)]
pub struct Relay {
    /// Ended with this.
    _process: Process,
    certificate: PathBuf,
    address: String,
}

impl Relay {
    /// Starts coturn on a host, with a certificate for its address.
    ///
    /// # Errors
    /// If coturn or openssl is missing, or does not start.
    pub fn start(lab: &Lab, host: &Host) -> Result<Self, Error> {
        let file = |name: &str| lab.directory().join(name);
        let (key, certificate, der) = (file("turn.key"), file("turn.pem"), file("turn.der"));
        let text = |path: &Path| path.display().to_string();
        let address = host.v4(1).to_string();
        let subject = format!("subjectAltName=IP:{address}");
        // One that may sign others would be refused as that of a server.
        let constraint = "basicConstraints=critical,CA:FALSE";
        let curve = "ec_paramgen_curve:prime256v1";
        let (key, certificate) = (text(&key), text(&certificate));
        let request = ["req", "-x509", "-newkey", "ec", "-pkeyopt", curve, "-nodes", "-days", "2", "-subj"];
        let names =
            ["/CN=lab", "-addext", &subject, "-addext", constraint, "-keyout", &key, "-out", &certificate];
        command("openssl", &[&request[..], &names[..]].concat(), "")?;
        command("openssl", &["x509", "-outform", "der", "-in", &certificate, "-out", &text(&der)], "")?;
        let six = host.v6(1);
        let mut config = format!("listening-ip={address}\nrelay-ip={address}\nlistening-port={PORT}\n");
        config += &format!("listening-ip={six}\nrelay-ip={six}\n");
        // A password for its command line, which is off, is the only way to stop a warning.
        for line in ["lt-cred-mech", "realm=lab", "no-cli", "no-stdout-log", "cli-password=unused"] {
            writeln!(config, "{line}").map_err(|error| Error::Program(error.to_string()))?;
        }
        config += &format!("user={USER}:{PASSWORD}\ntls-listening-port={TLS_PORT}\n");
        for (setting, path) in
            [("userdb", file("turn.db")), ("log-file", file("turn.txt")), ("pidfile", file("turn.pid"))]
        {
            config += &format!("{setting}={}\n", text(&path));
        }
        config += &format!("cert={certificate}\npkey={key}\n");
        let path = file("turn.conf");
        fs::write(&path, config).map_err(Error::io(text(&path)))?;
        let arguments = ["-c".to_owned(), text(&path)];
        let process = host.spawn(Path::new("turnserver"), &arguments, &file("turn.log"))?;
        let relay = Self { _process: process, certificate: der, address };
        relay.wait(host)?;
        Ok(relay)
    }

    /// Until it takes connections on its last port.
    fn wait(&self, host: &Host) -> Result<(), Error> {
        let address = format!("{}:{TLS_PORT}", self.address);
        let tried = host.run(move || {
            let until = Instant::now() + PATIENCE;
            while Instant::now() < until {
                if std::net::TcpStream::connect(&address).is_ok() {
                    return true;
                }
                thread::sleep(Duration::from_millis(20));
            }
            false
        })?;
        match tried.join() {
            Ok(Ok(true)) => Ok(()),
            _ => Err(Error::Program("coturn does not take connections".into())),
        }
    }

    /// Its URLs over UDP, TCP and TLS.
    #[must_use]
    pub fn urls(&self) -> [String; 3] {
        let address = &self.address;
        [
            format!("turn:{address}:{PORT}"),
            format!("turn:{address}:{PORT}?transport=tcp"),
            format!("turns:{address}:{TLS_PORT}"),
        ]
    }

    /// User and password.
    #[must_use]
    pub fn login(&self) -> [&'static str; 2] {
        [USER, PASSWORD]
    }

    /// The certificate of TLS, in DER.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn certificate(&self) -> Result<Vec<u8>, Error> {
        fs::read(&self.certificate).map_err(Error::io(self.certificate.display().to_string()))
    }
}

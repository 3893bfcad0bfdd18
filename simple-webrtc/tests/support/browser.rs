//! Browsers without a window, each with a profile of its own.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Between two looks whether it has ended.
const TICK: Duration = Duration::from_millis(20);
/// How long it may take to end by itself when it is asked to.
const FAREWELL: Duration = Duration::from_secs(5);

/// Paths on loopback, addresses as they are, sound without a click, and no network but this page's.
const FIREFOX: &[(&str, &str)] = &[
    ("media.peerconnection.ice.loopback", "true"),
    ("media.peerconnection.ice.obfuscate_host_addresses", "false"),
    ("media.autoplay.default", "0"),
    ("media.autoplay.blocking_policy", "0"),
    ("network.dns.disabled", "true"),
    ("network.captive-portal-service.enabled", "false"),
    ("network.connectivity-service.enabled", "false"),
    ("browser.shell.checkDefaultBrowser", "false"),
    ("browser.startup.homepage_override.mstone", "\"ignore\""),
    ("browser.aboutwelcome.enabled", "false"),
    ("browser.safebrowsing.update.enabled", "false"),
    ("datareporting.policy.dataSubmissionEnabled", "false"),
    ("app.normandy.enabled", "false"),
    ("app.update.enabled", "false"),
    ("extensions.update.enabled", "false"),
    ("services.settings.server", "\"\""),
    ("toolkit.telemetry.enabled", "false"),
];

/// The same for Chromium.
const CHROMIUM: &[&str] = &[
    "--headless=new",
    "--allow-loopback-in-peer-connection",
    "--disable-features=WebRtcHideLocalIpsWithMdns",
    "--autoplay-policy=no-user-gesture-required",
    "--mute-audio",
    "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--no-default-browser-check",
    // Its sandbox needs what not every machine gives to everybody; it opens nothing but the page of this test.
    "--no-sandbox",
];

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    Chromium,
    Firefox,
}

pub(crate) struct Browser {
    process: Child,
    profile: PathBuf,
}

impl Browser {
    /// Opens the page.
    pub(crate) fn open(kind: Kind, url: &str) -> Self {
        let name = format!("simple-webrtc-{}-{kind:?}-{}", std::process::id(), url.replace(['/', ':'], ""));
        let profile = std::env::temp_dir().join(name);
        fs::create_dir_all(&profile).expect("a directory");
        let mut command = match kind {
            Kind::Chromium => {
                let mut command = Command::new("chromium");
                command.args(CHROMIUM).arg(format!("--user-data-dir={}", profile.display()));
                command
            }
            Kind::Firefox => {
                let lines = FIREFOX.iter().map(|(name, value)| format!("user_pref(\"{name}\", {value});\n"));
                fs::write(profile.join("user.js"), lines.collect::<String>()).expect("written");
                let mut command = Command::new("firefox-esr");
                command.args(["--headless", "--no-remote", "--profile"]).arg(&profile);
                command
            }
        };
        let process = command
            .arg(url)
            .env("HOME", &profile)
            .env_remove("DISPLAY")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A group of its own, so that what it starts ends with it.
            .process_group(0)
            .spawn()
            .expect(
                "the browser is not installed here: `make test-browser` installs it on Debian and Ubuntu",
            );
        Self { process, profile }
    }

    fn signal(&self, signal: &str) {
        let group = format!("-{}", self.process.id());
        let _ = Command::new("kill").args([signal, "--", &group]).stderr(Stdio::null()).status();
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        self.signal("-TERM");
        let asked = Instant::now();
        while asked.elapsed() < FAREWELL && matches!(self.process.try_wait(), Ok(None)) {
            std::thread::sleep(TICK);
        }
        // Whatever is left of its group, and of what writes into the profile.
        self.signal("-KILL");
        let _ = self.process.wait();
        for _ in 0..50 {
            if fs::remove_dir_all(&self.profile).is_ok() {
                return;
            }
            std::thread::sleep(TICK);
        }
        eprintln!("{} is left", self.profile.display());
    }
}

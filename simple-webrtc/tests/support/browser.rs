//! Browsers without a window, each with a profile of its own.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// Runs a browser until our end of the pipe is closed, which it also is when the test is killed. Then whatever belongs to
/// its group is asked to end, has five seconds to do so, and is ended.
const GUARD: &str = r#"
profile=$1; shift
"$@" </dev/null & browser=$!
trap : TERM
read -r _
kill -TERM 0
(trap '' TERM; sleep 5; kill -KILL 0) &
wait $browser
rm -rf "$profile"
kill -KILL 0
"#;
/// Between two tries to remove the profile, into which something that ends may still write.
const TICK: Duration = Duration::from_millis(20);

/// Paths on loopback, addresses as they are, sound without a click, and no network but this page's.
const FIREFOX: &[(&str, &str)] = &[
    ("media.peerconnection.ice.loopback", "true"),
    ("media.peerconnection.ice.obfuscate_host_addresses", "false"),
    ("media.autoplay.default", "0"),
    ("media.autoplay.blocking_policy", "0"),
    ("network.dns.disabled", "true"),
    // A tone. Its `AudioContext`, which would make one too, waits for ever where there is no sound card.
    ("media.navigator.streams.fake", "true"),
    ("media.navigator.permission.disabled", "true"),
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

impl Kind {
    /// What the page's address has to end in.
    pub(crate) fn query(self) -> &'static str {
        match self {
            Self::Chromium => "",
            Self::Firefox => "?microphone",
        }
    }
}

pub(crate) struct Browser {
    process: Child,
    profile: PathBuf,
}

impl Browser {
    /// Opens the page.
    pub(crate) fn open(kind: Kind, url: &str) -> Self {
        let name =
            format!("simple-webrtc-{}-{kind:?}-{}", std::process::id(), url.replace(['/', ':', '?'], ""));
        let profile = std::env::temp_dir().join(name);
        fs::create_dir_all(&profile).expect("a directory");
        let command = match kind {
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
        let guarded = [command.get_program()].into_iter().chain(command.get_args());
        let process = Command::new("sh")
            .args(["-c", GUARD, "sh"])
            .arg(&profile)
            .args(guarded)
            .arg(url)
            .env("HOME", &profile)
            .env_remove("DISPLAY")
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            // A group of its own, so that what it starts ends with it.
            .process_group(0)
            .spawn()
            .expect("there is a shell");
        Self { process, profile }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        let _ = self.process.wait();
        for _ in 0..50 {
            if fs::remove_dir_all(&self.profile).is_ok() || !self.profile.exists() {
                return;
            }
            std::thread::sleep(TICK);
        }
        eprintln!("{} is left", self.profile.display());
    }
}

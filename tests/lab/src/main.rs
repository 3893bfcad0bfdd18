//! Measures whole calls over emulated networks, and writes a line of JSON for each. `make lab` and `make bench-calls` run it.
//!
//! ```text
//! lab-calls --words DIR --out DIR [--profile NAME,NAME] [--seed N] [--seeds N] [--with blink,chromium] [--set-ups N]
//! ```

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    match run::run(std::env::args().skip(1)) {
        Ok(true) => std::process::ExitCode::SUCCESS,
        Ok(false) => std::process::ExitCode::FAILURE,
        Err(error) => {
            eprintln!("lab-calls: {error}");
            std::process::ExitCode::from(2)
        }
    }
}

#[cfg(not(target_os = "linux"))]
fn main() -> std::process::ExitCode {
    eprintln!("lab-calls: network namespaces are Linux's: there is no lab on this system");
    std::process::ExitCode::from(2)
}

#[cfg(target_os = "linux")]
mod run {
    use std::{fs, io::Write as _, path::PathBuf, time::Instant};

    use blink_lab::{
        Profile,
        calls::{Call, Peer, Words},
    };

    /// What was asked for.
    #[derive(Debug, PartialEq)]
    struct Options {
        words: PathBuf,
        out: PathBuf,
        profiles: Vec<Profile>,
        first: u64,
        seeds: u64,
        peers: Vec<Peer>,
        /// Calls of which only the set-up is measured, for each whole one.
        set_ups: u64,
    }

    impl Options {
        fn read(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
            let mut options = Self {
                words: PathBuf::new(),
                out: PathBuf::new(),
                profiles: Profile::all(),
                first: 1,
                seeds: 1,
                peers: vec![Peer::Blink],
                set_ups: 1,
            };
            while let Some(name) = arguments.next() {
                let value = arguments.next().ok_or_else(|| format!("{name} needs a value"))?;
                let number =
                    || value.parse::<u64>().map_err(|_| format!("{name}: `{value}` is no whole number"));
                match name.as_str() {
                    "--words" => options.words = value.into(),
                    "--out" => options.out = value.into(),
                    "--profile" => options.profiles = Profile::named(&value)?,
                    "--seed" => options.first = number()?,
                    "--seeds" => options.seeds = number()?,
                    "--set-ups" => options.set_ups = number()?,
                    "--with" => options.peers = value.split(',').map(peer).collect::<Result<_, _>>()?,
                    _ => return Err(format!("there is no option {name}")),
                }
            }
            if [&options.words, &options.out].iter().any(|path| path.as_os_str().is_empty()) {
                return Err("--words and --out are needed: what is said, and where results go".into());
            }
            Ok(options)
        }

        /// All calls, in an order in which the peers take turns: what disturbs a moment disturbs both.
        fn calls(&self) -> Vec<Call<'_>> {
            let mut calls = Vec::new();
            for seed in self.first..self.first.saturating_add(self.seeds) {
                for profile in &self.profiles {
                    for peer in &self.peers {
                        calls.push(Call::whole(*peer, profile, seed));
                        // Other luck for each, and none that a whole call has had.
                        let luck = |k: u64| seed.wrapping_mul(1000).wrapping_add(k);
                        calls.extend((0..self.set_ups).map(|k| Call::short(*peer, profile, luck(k))));
                    }
                }
            }
            calls
        }
    }

    fn peer(name: &str) -> Result<Peer, String> {
        [Peer::Blink, Peer::Chromium]
            .into_iter()
            .find(|peer| peer.name() == name.trim())
            .ok_or_else(|| format!("nobody is called `{name}`: there are blink and chromium"))
    }

    /// Whether all calls came about.
    pub(crate) fn run(arguments: impl Iterator<Item = String>) -> Result<bool, String> {
        let options = Options::read(arguments)?;
        let words = Words::read(&options.words).map_err(|error| error.to_string())?;
        let path = options.out.join("calls.jsonl");
        let opened = fs::create_dir_all(&options.out).and_then(|()| fs::File::create(&path));
        let mut file = opened.map_err(|error| format!("{}: {error}", path.display()))?;
        let (calls, began) = (options.calls(), Instant::now());
        let mut whole = true;
        for (k, call) in calls.iter().enumerate() {
            let line = call.measure(&words, &options.out);
            whole &= line["error"].is_null();
            let how = line["error"].as_str().map_or("done", |error| error.lines().next().unwrap_or("failed"));
            eprintln!(
                "{:4.0} s  {}/{}  {} {} {} seed {}: {how}",
                began.elapsed().as_secs_f64(),
                k + 1,
                calls.len(),
                call.peer.name(),
                call.profile.name,
                if call.short { "set-up" } else { "call" },
                call.seed
            );
            writeln!(file, "{line}").map_err(|error| format!("{}: {error}", path.display()))?;
        }
        Ok(whole)
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        fn read(text: &str) -> Result<Options, String> {
            Options::read(text.split_whitespace().map(str::to_owned))
        }

        #[test]
        fn options_are_read() {
            let options = read(
                "--words w --out o --profile lan,loss10 --seed 7 --seeds 2 --with blink,chromium --set-ups 2",
            )
            .expect("good");
            assert_eq!((options.first, options.seeds, options.set_ups), (7, 2, 2));
            let calls = options.calls();
            assert_eq!(calls.len(), 2 * 2 * 2 * 3);
            let luck: std::collections::BTreeSet<_> =
                calls.iter().map(|call| (call.peer.name(), call.profile.name, call.seed)).collect();
            assert_eq!(luck.len(), calls.len(), "no two calls of one kind have the same luck");
            // Both peers meet the same.
            let of = |peer: Peer| -> Vec<_> {
                calls
                    .iter()
                    .filter(|call| call.peer == peer)
                    .map(|call| (call.profile.name, call.seed))
                    .collect()
            };
            assert_eq!(of(Peer::Blink), of(Peer::Chromium));
            assert_eq!(read("--words w --out o").expect("good").profiles.len(), Profile::all().len());
        }

        #[test]
        fn what_is_wrong_is_said() {
            for (text, part) in [
                ("--words w", "--out"),
                ("--words w --out o --seed x", "`x`"),
                ("--words w --out", "needs a value"),
                ("--words w --out o --with opera", "`opera`"),
                ("--words w --out o --profile moon", "`moon`"),
                ("--loud yes", "--loud"),
            ] {
                let error = read(text).expect_err(text);
                assert!(error.contains(part), "{text}: {error}");
            }
        }
    }
}

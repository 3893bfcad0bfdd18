//! The networks that calls are measured over, by name. Pure.

use std::time::Duration;

use crate::{Bursts, Conditions, Jitter, Late, Rate};

/// A network between two, the same both ways.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Profile {
    /// What it is asked for by.
    pub name: &'static str,
    /// The same for a table.
    pub what: &'static str,
    /// What happens to packets.
    pub conditions: Conditions,
    /// Nothing passes for so long, once in a call.
    pub outage: Option<Duration>,
    /// The hosts have addresses of IPv6 alone, else of IPv4 alone.
    pub v6: bool,
}

/// One way over a continent.
const FAR: Duration = Duration::from_millis(50);
/// What a wireless link adds (standard deviation). The order is kept, as by one queue.
const UNEVEN: Jitter = Jitter::Normal(Duration::from_millis(5));
/// What waits before a narrow place: at 40 kb/s that is 2.5 kB, two packets of full size. With less no handshake of DTLS gets
/// through, whose flights have as many; with it, who sends too much is heard half a second late.
const QUEUE: Duration = Duration::from_millis(500);

impl Profile {
    fn new(name: &'static str, what: &'static str, conditions: Conditions) -> Self {
        Self { name, what, conditions, outage: None, v6: false }
    }

    /// There and back, without jitter.
    #[must_use]
    pub fn round_trip(&self) -> Duration {
        self.conditions.delay * 2
    }

    /// All of them, in the order of tables.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let far = || Conditions { delay: FAR, jitter: UNEVEN, ..Conditions::default() };
        let losing = |loss| Conditions { loss, ..far() };
        let narrow = |bits| Conditions { rate: Some(Rate { bits, queue: QUEUE }), ..far() };
        let bursts = Some(Bursts { mean: 0.1, length: 3.0 });
        let jitter = Jitter::Normal(Duration::from_millis(30));
        let late = Some(Late { share: 0.05, by: Duration::from_millis(30) });
        vec![
            Self::new("lan", "LAN, 1 ms one way", Conditions::delayed(1)),
            Self::new("delay50", "50 ms one way", far()),
            Self::new("loss2", "50 ms, 2 % lost", losing(0.02)),
            Self::new("loss5", "50 ms, 5 % lost", losing(0.05)),
            Self::new("loss10", "50 ms, 10 % lost", losing(0.1)),
            Self::new("loss20", "50 ms, 20 % lost", losing(0.2)),
            Self::new("bursts10", "50 ms, 10 % lost in bursts of 3", Conditions { bursts, ..far() }),
            Self::new("jitter30", "50 ms, 30 ms jitter", Conditions { jitter, ..far() }),
            Self {
                outage: Some(Duration::from_secs(5)),
                ..Self::new("outage5", "50 ms, outage of 5 s", far())
            },
            Self::new("rate60", "50 ms, 60 kb/s", narrow(60_000)),
            Self::new("rate40", "50 ms, 40 kb/s", narrow(40_000)),
            Self::new(
                "reorder",
                "50 ms, 5 % 30 ms later, 2 % twice",
                Conditions { late, twice: 0.02, ..far() },
            ),
            Self { v6: true, ..Self::new("ipv6", "50 ms, IPv6 alone", far()) },
        ]
    }

    /// Those with these names, commas between, in the order of tables. Without any: all.
    ///
    /// # Errors
    /// If there is none of one of the names, with those that there are.
    pub fn named(names: &str) -> Result<Vec<Self>, String> {
        let names: Vec<_> = names.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
        let all = Self::all();
        if let Some(unknown) = names.iter().find(|name| all.iter().all(|profile| profile.name != **name)) {
            let known: Vec<_> = all.iter().map(|profile| profile.name).collect();
            return Err(format!("there is no profile `{unknown}`: there are {}", known.join(", ")));
        }
        Ok(all.into_iter().filter(|profile| names.is_empty() || names.contains(&profile.name)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Link, link::Fate};

    /// A minute of sound in packets of this length, every 20 ms of made-up time.
    fn minute(profile: &Profile, seed: u64, length: usize) -> Vec<Fate> {
        let mut link = Link::new(profile.conditions.clone(), seed);
        (0..3000).map(|k| link.pass(Duration::from_millis(20) * k, length)).collect()
    }

    #[test]
    fn one_seed_has_one_result_and_another_has_another() {
        for profile in Profile::all() {
            let once = minute(&profile, 11, 120);
            assert_eq!(once, minute(&profile, 11, 120), "{}", profile.name);
            let perfect = profile.conditions == Conditions::delayed(1);
            assert_eq!(once == minute(&profile, 12, 120), perfect, "{}", profile.name);
        }
    }

    #[test]
    fn profiles_lose_what_their_names_say() {
        for (name, wanted) in [
            ("lan", 0.0),
            ("delay50", 0.0),
            ("loss2", 0.02),
            ("loss5", 0.05),
            ("loss10", 0.1),
            ("loss20", 0.2),
            ("bursts10", 0.1),
            ("jitter30", 0.0),
            ("reorder", 0.0),
        ] {
            let profile = &Profile::named(name).expect("it is there")[0];
            let lost: usize = (1..=20)
                .map(|seed| minute(profile, seed, 120).iter().filter(|f| f.departures().count() == 0).count())
                .sum();
            let share = lost as f64 / 60_000.0;
            assert!((share - wanted).abs() <= 0.1 * wanted, "{name}: {share}");
        }
    }

    #[test]
    fn a_narrow_place_passes_what_it_can_and_holds_the_rest_for_its_queue_at_most() {
        // 160 bytes every 20 ms are 64 kb/s.
        for (name, passes) in [("rate60", 60.0 / 64.0), ("rate40", 40.0 / 64.0)] {
            let profile = &Profile::named(name).expect("it is there")[0];
            let fates = minute(profile, 3, 160);
            let through: Vec<_> =
                fates.iter().enumerate().filter_map(|(k, f)| Some((k, f.departures().next()?))).collect();
            let share = through.len() as f64 / fates.len() as f64;
            assert!((share - passes).abs() < 0.01, "{name}: {share}");
            let longest = through.iter().map(|(k, at)| *at - Duration::from_millis(20) * *k as u32).max();
            // The queue, the packet itself, the way, and five deviations.
            let most = QUEUE + Duration::from_millis(32 + 50 + 25);
            assert!(longest.is_some_and(|longest| longest <= most), "{name}: {longest:?}");
        }
    }

    #[test]
    fn profiles_are_chosen_by_name() {
        let names = |list: &str| -> Vec<_> {
            Profile::named(list).expect("known").into_iter().map(|profile| profile.name).collect()
        };
        assert_eq!(names("ipv6, lan"), ["lan", "ipv6"]);
        assert_eq!(names("").len(), Profile::all().len());
        let error = Profile::named("lan,los10").expect_err("no such profile");
        assert!(error.contains("`los10`") && error.contains("loss10"), "{error}");
        let unique: std::collections::BTreeSet<_> = names("").into_iter().collect();
        assert_eq!(unique.len(), Profile::all().len());
    }
}

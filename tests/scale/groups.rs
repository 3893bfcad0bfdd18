//! Calls of whole nodes, each in a process of its own: all of them talk.

use std::thread;

use crate::{
    child::Child,
    orders::{Order, Sample},
    run::Scale,
    watch::{self, look_at, median, tell},
};

pub(crate) fn measure(scale: &Scale) -> Result<(), String> {
    for &nodes in scale.groups {
        call(scale, nodes)?;
    }
    Ok(())
}

fn call(scale: &Scale, nodes: u32) -> Result<(), String> {
    let mut all = Vec::new();
    for number in 0..nodes {
        all.push(Child::phone(100 * nodes + number, &scale.speech)?);
    }
    thread::sleep(scale.settle);
    let before = sum(&mut all)?;
    let who = all[1..].iter().map(|child| (child.number, child.address.clone())).collect();
    all[0].tell(&Order::Call { who })?;
    let offered = all[0].wait("offered")?["t"].as_f64().unwrap_or(f64::NAN);
    let mut until = [offered; 2];
    for (event, until) in ["joined", "heard"].into_iter().zip(&mut until) {
        for child in &all {
            *until = until.max(child.of_all(event, nodes - 1)?);
        }
    }
    let after = sum(&mut all)?;
    let of = |name: &str| format!("group/{nodes}/{name}");
    for (name, until) in ["joined_us", "heard_us"].into_iter().zip(until) {
        tell(of(name), ((until - offered) * 1e6).round());
    }
    tell(of("gossip_messages"), after.published.messages - before.published.messages);
    tell(of("gossip_bytes"), after.published.bytes - before.published.bytes);
    tell(of("link_messages"), after.over_links.messages - before.over_links.messages);
    tell(of("link_bytes"), after.over_links.bytes - before.over_links.bytes);
    tell(of("signals"), after.sent - before.sent);
    tell(of("signals_again"), after.resent - before.resent);
    thread::sleep(scale.settle);
    let done = look_at(&mut all.iter_mut().collect::<Vec<_>>(), scale.look)?;
    for done in &done {
        watch::hears(done, nodes - 1)?;
    }
    tell(of("cpu_ppm"), median(done.iter().map(|done| done.cpu_ppm).collect()));
    tell(of("cpu_most_ppm"), done.iter().map(|done| done.cpu_ppm).max().unwrap_or(0));
    tell(of("concealed_ppm"), done.iter().map(watch::concealed_ppm).max().unwrap_or(0));
    let mut held = Vec::new();
    for child in &all {
        held.push(child.held()?);
    }
    for (name, of_one) in [
        ("rss_kb", held.iter().map(|held| held.rss_kb).collect::<Vec<_>>()),
        ("peak_kb", held.iter().map(|held| held.peak_kb).collect()),
        ("pss_kb", held.iter().map(|held| held.pss_kb).collect()),
        ("heap_kb", held.iter().map(|held| held.heap_kb).collect()),
    ] {
        tell(of(name), median(of_one));
    }
    all[0].have(&Order::HangUp)
}

/// What all have said of it together.
fn sum(all: &mut [Child]) -> Result<Sample, String> {
    let mut sum = Sample::default();
    for child in all {
        let sample = child.sample()?;
        sum.sent += sample.sent;
        sum.resent += sample.resent;
        for (sum, of) in [(&mut sum.published, sample.published), (&mut sum.over_links, sample.over_links)] {
            sum.messages += of.messages;
            sum.bytes += of.bytes;
        }
    }
    Ok(sum)
}

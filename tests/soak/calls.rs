//! Calls one after another.

use std::{
    thread,
    time::{Duration, Instant},
};

use blink_tests::{
    e2e::Proxy,
    soak::trend::{Bound, median},
};

use crate::{
    child::{Child, multiaddr},
    linux::Arguments,
    pair,
    report::{Luck, Report},
};

const CALLER: u8 = 1;
const CALLEE: u8 = 2;
const VICTIM: u8 = 3;

/// After so many calls the figures are taken.
const BLOCK: u32 = 5;
/// And something goes wrong once in so many.
const TROUBLE: u32 = 15;
/// Before figures are taken the two are left alone until nothing of the last call is left: connections close within 0.11 s
/// (simple-webrtc, `Timeouts::closing`), and the last words are acknowledged at once.
const REST: Duration = Duration::from_secs(2);
/// The first quarter is for warming up: what is remembered of ended calls and peers fills its places, and the allocator its
/// arenas.
const WARM: f64 = 0.25;
/// Set-up is a matter of tens of milliseconds, which other work on the machine may double; what waits for something that
/// was leaked waits for a time-out of a second or more.
const SET_UP: Bound = Bound { least: 100.0, share: 0.5 };

/// Two who call each other, and one who is killed again and again while it talks to one of them, whose figures go on.
struct Scene {
    caller: Child,
    callee: Child,
    victim: Child,
    to_callee: Proxy,
    to_victim: Proxy,
    luck: Luck,
    made: u32,
}

/// Makes the calls, or as many as fit into the time.
pub(crate) fn run(arguments: &Arguments, report: &mut Report) -> Result<(), String> {
    if arguments.calls == Some(0) {
        return Ok(());
    }
    let mut scene = Scene::new(arguments.seed)?;
    let start = Instant::now();
    let time = Duration::try_from_secs_f64(arguments.minutes * 60.0).unwrap_or(Duration::MAX);
    let over = |made: u32| match arguments.calls {
        Some(calls) => made >= calls,
        None => start.elapsed() >= time,
    };
    let (mut rings, mut audios) = (Vec::new(), Vec::new());
    let (mut weights, mut signals) = (Vec::new(), Vec::new());
    while !over(scene.made) {
        let (bytes, sent) = (scene.to_callee.bytes(), scene.sent()?);
        scene.made += 1;
        let number = scene.made;
        let told = |error: String| format!("call {number}: {error}");
        let set_up = pair::call(&mut scene.caller, &scene.callee).map_err(told)?;
        rings.push(set_up.ring);
        audios.push(set_up.audio);
        let trouble = number % TROUBLE == 0;
        if trouble {
            scene.trouble(report).map_err(told)?;
        }
        pair::hang_up(&mut scene.caller, &scene.callee).map_err(told)?;
        if trouble && scene.luck.below(3) == 0 {
            scene.kill(report).map_err(told)?;
        }
        if !trouble {
            weights.push((scene.to_callee.bytes() - bytes) as f64);
            signals.push(scene.sent()? - sent);
        }
        if number % BLOCK == 0 {
            thread::sleep(REST);
            report.figures("calls", &mut scene.caller)?;
            report.figures("calls", &mut scene.callee)?;
        }
        if number % 50 == 0 {
            eprintln!("{} calls after {:.0} s", scene.made, start.elapsed().as_secs_f64());
        }
    }
    report.tell("calls", f64::from(scene.made));
    report.tell("seconds of calls", start.elapsed().as_secs_f64());
    if let (Some(bytes), Some(signals)) = (median(&weights), median(&signals)) {
        report.tell("bytes of gossip per call, median", bytes);
        report.tell("signals sent per call, median", signals);
    }
    report.series("calls", "both", "offer to ring, ms", rings, SET_UP);
    report.series("calls", "both", "accept to first audio, ms", audios, SET_UP);
    report.judge("calls", WARM);
    Ok(())
}

impl Scene {
    fn new(seed: u64) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("a proxy: {error}");
        let mut luck = Luck::new(seed);
        let victim = Child::start("the victim", VICTIM, luck.number(), 0, &[])?;
        let to_victim = Proxy::new(victim.address).map_err(failed)?;
        let its = multiaddr(VICTIM, to_victim.port());
        let callee = Child::start("the callee", CALLEE, luck.number(), 0, std::slice::from_ref(&its))?;
        let to_callee = Proxy::new(callee.address).map_err(failed)?;
        let theirs = multiaddr(CALLEE, to_callee.port());
        let caller = Child::start("the caller", CALLER, luck.number(), 0, &[theirs, its])?;
        Ok(Self { caller, callee, victim, to_callee, to_victim, luck, made: 0 })
    }

    /// In the middle of a call one of the two stands still, or nothing passes between them. It goes on.
    fn trouble(&mut self, report: &mut Report) -> Result<(), String> {
        let Self { caller, callee, luck, .. } = self;
        pair::settled([&mut *caller, &mut *callee])?;
        let noticed = match luck.below(4) {
            0 => pair::stop(caller, callee, luck.seconds(3.0, 5.0))?,
            1 => pair::stop(callee, caller, luck.seconds(3.0, 5.0))?,
            _ => {
                // Beyond six seconds another path is asked for, which is another half of what could leak.
                let noticed = pair::cut([caller, callee], &self.to_callee, luck.seconds(3.0, 9.0))?;
                report.count(if noticed { "cut, and noticed" } else { "cut, and not noticed by both" });
                return Ok(());
            }
        };
        report.count(if noticed { "stopped, and noticed" } else { "stopped, and not noticed" });
        Ok(())
    }

    /// One of the two calls somebody who is killed meanwhile, notices, hangs up, and calls again whoever has come back.
    fn kill(&mut self, report: &mut Report) -> Result<(), String> {
        let Self { caller, callee, victim, luck, .. } = self;
        let left = if luck.below(2) == 0 { caller } else { callee };
        pair::call(left, victim)?;
        pair::settled([&mut *left, &mut *victim])?;
        left.forget();
        victim.kill();
        pair::bereaved(left)?;
        *victim = Child::start("the victim", VICTIM, luck.number(), 0, &[])?;
        self.to_victim.lead(victim.address);
        pair::call(left, victim)?;
        pair::hang_up(left, victim)?;
        self.made += 2;
        report.count("killed");
        Ok(())
    }

    /// Signals that both have sent so far, without those sent again.
    fn sent(&mut self) -> Result<f64, String> {
        let mut all = 0.0;
        for phone in [&mut self.caller, &mut self.callee] {
            all += phone.sample()?["sent"].as_f64().unwrap_or_default();
        }
        Ok(all)
    }
}

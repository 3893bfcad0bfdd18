//! A whole node in a process of its own, which answers every call at once and does what it is told.

use std::{
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    sync::{Arc, OnceLock},
    time::Duration,
};

use clap::Args;
use rustix::{
    process::{Signal, set_parent_process_death_signal},
    time::{ClockId, clock_gettime},
};
use serde_json::json;
use tokio::runtime::Handle;
use warp_blink::{
    Audio, Blink, Builder, Config, Event, Outside, PreConnect,
    audio::{Processing, SinkSpec, SourceSpec},
    event::Presence,
};

use crate::{
    counted::Counted,
    orders::{Order, Sample, identity, key, listen, say},
};

/// How one is started.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Whose key it has
    #[arg(long)]
    number: u32,
    /// What it says, a WAV file
    #[arg(long)]
    speech: PathBuf,
    /// Connections with contacts stay
    #[arg(long)]
    keep_contacts: bool,
}

pub(crate) fn main(arguments: &Arguments) -> Result<(), String> {
    // As `blink` has it.
    block_on(Some(1), live(arguments))
}

/// Runs a process of this program that ends with the one that started it. `None`: a worker thread for each core.
pub(crate) fn block_on(
    workers: Option<usize>,
    life: impl Future<Output = Result<(), String>>,
) -> Result<(), String> {
    set_parent_process_death_signal(Some(Signal::KILL)).map_err(|error| error.to_string())?;
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    if let Some(workers) = workers {
        builder.worker_threads(workers);
    }
    let runtime = builder.enable_all().build();
    runtime.map_err(|error| error.to_string())?.block_on(life)
}

/// A phone on loopback.
pub(crate) fn builder(number: u32, audio: Audio) -> Builder {
    let mut config = Config::default();
    config.pre_connect = PreConnect::Always;
    Blink::builder(identity(number))
        .config(config)
        .media(audio)
        .listen("/ip4/127.0.0.1/tcp/0")
        .ice_address(IpAddr::V4(Ipv4Addr::LOCALHOST))
}

/// Where it listens.
pub(crate) async fn address(blink: &Blink) -> Result<String, String> {
    let mut snapshots = blink.snapshots();
    let there = snapshots.wait_for(|snapshot| !snapshot.addresses.is_empty()).await;
    Ok(there.map_err(|error| error.to_string())?.addresses[0].clone())
}

async fn live(arguments: &Arguments) -> Result<(), String> {
    let said = SourceSpec::Wav(arguments.speech.clone());
    let counted: Arc<OnceLock<Counted>> = Arc::default();
    let into = counted.clone();
    let around = move |ports: Outside| {
        let (counted, ports) = Counted::around(&ports);
        // Ports are made once.
        let _ = into.set(counted);
        ports
    };
    let phone = builder(arguments.number, Audio::new(said, SinkSpec::Null)).outside(around);
    let phone = phone.keep_contacts(arguments.keep_contacts);
    let blink = phone.spawn().await.map_err(|error| error.to_string())?;
    let mut events = blink.events();
    say("ready", json!({"address": address(&blink).await?}))?;
    let mut orders = listen();
    loop {
        tokio::select! {
            event = events.next() => match event {
                Some(event) => hear(event, &blink).await?,
                None => return Err("the phone has ended".into()),
            },
            order = orders.recv() => match order {
                Some(order) => perform(order?, &blink, counted.get()).await?,
                None => break,
            },
        }
    }
    blink.shutdown().await;
    Ok(())
}

async fn hear(event: Event, blink: &Blink) -> Result<(), String> {
    match event {
        Event::Incoming { call, .. } => blink.answer(call).await.map_err(|error| error.to_string()),
        Event::Participant { peer, state, .. } if state.presence == Presence::Joined => {
            say("joined", json!({"peer": peer}))
        }
        Event::FirstAudio { peer, .. } => say("heard", json!({"peer": peer})),
        Event::Ended { reason, .. } => say("ended", json!({"reason": reason})),
        _ => Ok(()),
    }
}

async fn perform(order: Order, blink: &Blink, counted: Option<&Counted>) -> Result<(), String> {
    let text = |error: warp_blink::Error| error.to_string();
    match order {
        Order::Call { who } => {
            for (_, address) in &who {
                blink.add_address(address).await.map_err(text)?;
            }
            say("offered", json!({}))?;
            blink.offer(who.iter().map(|(number, _)| key(*number))).await.map_err(text)?;
        }
        Order::HangUp => {
            let calls: Vec<_> = blink.snapshot().calls.iter().map(|call| call.id).collect();
            for call in calls {
                // It may have ended by itself.
                let _ = blink.hang_up(call).await;
            }
        }
        Order::Processing { on } => {
            let processing = if on { Processing::on() } else { Processing::off() };
            blink.set_processing(processing).await.map_err(text)?;
        }
        Order::Befriend { first, count } => {
            for number in first..first + count {
                blink.add_contact(key(number)).await.map_err(text)?;
            }
        }
        Order::More { .. } => return Err("one phone is no crowd".into()),
        Order::Sample => {
            let mut sample = Sample { cpu_us: cpu_us(), tasks: tasks(), ..Sample::default() };
            if let Some(counted) = counted {
                counted.fill(&mut sample);
            }
            statistics(blink, &mut sample);
            return say("sample", json!({"of": sample}));
        }
    }
    say("done", json!({}))
}

/// What this process has taken of the processors.
pub(crate) fn cpu_us() -> u64 {
    let time = clock_gettime(ClockId::ProcessCPUTime);
    let time = Duration::new(time.tv_sec.unsigned_abs(), u32::try_from(time.tv_nsec).unwrap_or(0));
    u64::try_from(time.as_micros()).unwrap_or(u64::MAX)
}

pub(crate) fn tasks() -> u64 {
    Handle::current().metrics().num_alive_tasks() as u64
}

fn statistics(blink: &Blink, sample: &mut Sample) {
    let snapshot = blink.snapshot();
    let counters = &snapshot.statistics.counters;
    (sample.sent, sample.resent) = (counters.sent, counters.resent);
    for sound in snapshot.statistics.links.iter().filter_map(|link| link.stats.sound.as_deref()) {
        sample.talkers += 1;
        sample.packets += sound.received;
        sample.played_ms += sound.played_ms;
        sample.concealed_ms += sound.concealed_ms;
    }
}

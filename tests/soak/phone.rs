//! One of the phones, in a process of its own: it answers every call at once, and does what it is told by lines of JSON on
//! its standard input. What happens is written as lines of JSON, with the time.

use std::{
    io::{self, BufRead as _, Write as _},
    net::{IpAddr, Ipv4Addr},
    path::PathBuf,
    process::ExitCode,
    thread,
    time::{SystemTime, UNIX_EPOCH},
};

use clap::Args;
use rustix::process::{Signal, set_parent_process_death_signal};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::{runtime::Handle, sync::mpsc};
use warp_blink::{
    Audio, Blink, Config, Event, Faults, Identity, PreConnect, PublicKey,
    audio::{SinkSpec, SourceSpec, WavFormat, WavSample},
};

use crate::linux::HEAP;
use blink_tests::soak::marks;

/// How one is started.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Whose key it has
    #[arg(long)]
    pub(crate) seed: u8,
    /// Where others are
    #[arg(long)]
    pub(crate) peer: Vec<String>,
    /// Decides what its network loses
    #[arg(long)]
    pub(crate) luck: u64,
    /// By how much its sound's clock is fast, in millionths
    #[arg(long, default_value = "0", allow_hyphen_values = true)]
    pub(crate) fast: i32,
}

/// What it is told.
#[derive(Debug, Deserialize)]
#[serde(tag = "do", rename_all = "snake_case")]
enum Order {
    /// Calls somebody.
    Call { key: String },
    /// Ends all calls.
    HangUp,
    /// Its network loses this share of what it sends.
    Lose { share: f64 },
    /// Its network takes nothing of what it sends, or does again.
    Cut { on: bool },
    /// Says and hears files in later calls.
    Files { said: PathBuf, heard: PathBuf },
    /// Tells its figures.
    Sample,
}

pub(crate) fn identity(seed: u8) -> Identity {
    Identity::from_seed([seed; 32])
}

pub(crate) fn main(arguments: &Arguments) -> ExitCode {
    // Also when it is stopped: nobody is left then who would let it go on.
    let bound = set_parent_process_death_signal(Some(Signal::KILL)).map_err(|error| error.to_string());
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let done = bound.and_then(|()| runtime.map_err(|error| error.to_string()));
    match done.and_then(|runtime| runtime.block_on(live(arguments))) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("soak phone {}: {error}", arguments.seed);
            ExitCode::FAILURE
        }
    }
}

async fn live(arguments: &Arguments) -> Result<(), String> {
    let faults = Faults::new(arguments.luck);
    let mut config = Config::default();
    config.pre_connect = PreConnect::Always;
    let audio = Audio::new(SourceSpec::Tone, SinkSpec::Null).clock_error(arguments.fast);
    let mut builder = Blink::builder(identity(arguments.seed))
        .config(config)
        .media(audio)
        .listen("/ip4/127.0.0.1/tcp/0")
        .ice_address(IpAddr::V4(Ipv4Addr::LOCALHOST))
        .faults(faults.clone());
    for peer in &arguments.peer {
        builder = builder.peer(peer);
    }
    let blink = builder.spawn().await.map_err(|error| error.to_string())?;
    let mut events = blink.events();
    let mut snapshots = blink.snapshots();
    let listens = snapshots.wait_for(|snapshot| !snapshot.addresses.is_empty()).await;
    let addresses = listens.map_err(|error| error.to_string())?.addresses.clone();
    write(json!({"event": "ready", "addresses": addresses}))?;

    let mut orders = read();
    loop {
        tokio::select! {
            event = events.next() => {
                let Some(event) = event else { return Err("the phone has ended".into()) };
                if let Event::Incoming { call, .. } = &event {
                    blink.answer(*call).await.map_err(|error| error.to_string())?;
                }
                write(serde_json::to_value(&event).map_err(|error| error.to_string())?)?;
            }
            order = orders.recv() => match order {
                Some(order) => perform(order?, &blink, &faults).await?,
                None => break,
            },
        }
    }
    blink.shutdown().await;
    Ok(())
}

async fn perform(order: Order, blink: &Blink, faults: &Faults) -> Result<(), String> {
    let done = match order {
        Order::Call { key } => {
            let key = key.parse::<PublicKey>().map_err(|error| format!("{key}: {error}"))?;
            blink.offer([key]).await.map(drop)
        }
        Order::HangUp => {
            let calls: Vec<_> = blink.snapshot().calls.iter().map(|call| call.id).collect();
            for call in calls {
                // It may have ended by itself.
                let _ = blink.hang_up(call).await;
            }
            Ok(())
        }
        Order::Lose { share } => {
            faults.lose(share);
            Ok(())
        }
        Order::Cut { on } => {
            faults.cut(on);
            Ok(())
        }
        Order::Files { said, heard } => {
            let format = WavFormat::new(marks::RATE, 1, WavSample::I16);
            let said = blink.set_microphone(SourceSpec::Wav(said)).await;
            said.and(blink.set_speaker(SinkSpec::Wav(heard, format)).await)
        }
        Order::Sample => return write(sample(blink)),
    };
    done.map_err(|error| error.to_string())
}

/// What it holds, and how its call is.
fn sample(blink: &Blink) -> Value {
    let snapshot = blink.snapshot();
    let statistics = &snapshot.statistics;
    let link = statistics.links.first().map(|link| &link.stats);
    json!({
        "event": "sample",
        "tasks": Handle::current().metrics().num_alive_tasks(),
        "heap": HEAP.current_usage(),
        "calls": snapshot.calls.len(),
        "sent": statistics.counters.sent,
        "resent": statistics.counters.resent,
        "jitter_buffer_ms": link.and_then(|link| link.jitter_buffer_ms),
        "sound": link.and_then(|link| link.sound.as_deref()),
        "link": snapshot.calls.first().and_then(|call| Some(call.participants.first()?.link.name())),
    })
}

fn write(mut line: Value) -> Result<(), String> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    line["t"] = now.as_secs_f64().into();
    // In one piece, and out at once.
    let text = format!("{line}\n");
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| error.to_string())
}

/// What comes on standard input, until its end.
fn read() -> mpsc::Receiver<Result<Order, String>> {
    let (orders, receiver) = mpsc::channel(16);
    thread::spawn(move || {
        for line in io::stdin().lock().lines().map_while(Result::ok) {
            let order = serde_json::from_str(&line).map_err(|error| format!("{line}: {error}"));
            if orders.blocking_send(order).is_err() {
                return;
            }
        }
    });
    receiver
}

//! Many nodes in one process: those whom nobody measures. They answer every call at once.

use clap::Args;
use serde_json::json;
use tokio::task::JoinSet;
use warp_blink::{Audio, Blink, Event, PublicKey, driver::memory_media::MemoryLinks};

use crate::{
    mixed,
    orders::{Order, Sample, key, listen, say},
    phone, speech,
};

/// Nodes that start at the same time.
const AT_ONCE: u32 = 8;

/// How one is started.
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Whose key the first one has
    #[arg(long)]
    first: u32,
    /// They talk to this one only, without an encoder, and hear nothing
    #[arg(long)]
    talk_to: Option<u32>,
    /// This one is their contact
    #[arg(long)]
    friend: Option<u32>,
    /// And is here
    #[arg(long)]
    at: Option<String>,
}

pub(crate) fn main(arguments: &Arguments) -> Result<(), String> {
    phone::block_on(None, live(arguments))
}

/// How all of them are made.
struct Crowd {
    audio: Audio,
    full: Option<PublicKey>,
    links: MemoryLinks,
    friend: Option<PublicKey>,
    at: Option<String>,
}

impl Crowd {
    async fn start(&self, number: u32) -> Result<Blink, String> {
        let mut builder = phone::builder(number, self.audio.clone()).contacts(self.friend);
        if let Some(full) = self.full {
            let links = self.links.clone();
            builder = builder.outside(move |ports| mixed::mix(ports, full, &links));
        }
        if let Some(at) = &self.at {
            builder = builder.peer(at);
        }
        builder.spawn().await.map_err(|error| error.to_string())
    }
}

async fn live(arguments: &Arguments) -> Result<(), String> {
    let audio = match arguments.talk_to {
        Some(_) => Audio::scripted(speech::encoded()?),
        None => Audio::silent(),
    };
    let crowd = Crowd {
        audio,
        full: arguments.talk_to.map(key),
        links: MemoryLinks::default(),
        friend: arguments.friend.map(key),
        at: arguments.at.clone(),
    };
    let (mut phones, mut answering) = (Vec::new(), JoinSet::new());
    let mut orders = listen();
    while let Some(order) = orders.recv().await {
        match order? {
            Order::More { count } => {
                let from = arguments.first + u32::try_from(phones.len()).unwrap_or(u32::MAX);
                let mut who = Vec::new();
                let all: Vec<u32> = (from..from + count).collect();
                for some in all.chunks(AT_ONCE as usize) {
                    let started = some.iter().map(|number| crowd.start(*number));
                    for (number, blink) in some.iter().zip(futures::future::join_all(started).await) {
                        let blink = blink?;
                        who.push((*number, phone::address(&blink).await?));
                        answering.spawn(answer(blink.clone()));
                        phones.push(blink);
                    }
                }
                say("ready", json!({"who": who}))?;
            }
            Order::Sample => {
                let sample = Sample { cpu_us: phone::cpu_us(), tasks: phone::tasks(), ..Sample::default() };
                say("sample", json!({"of": sample}))?;
            }
            order => return Err(format!("a crowd does not do this: {order:?}")),
        }
    }
    Ok(())
}

async fn answer(blink: Blink) {
    let mut events = blink.events();
    while let Some(event) = events.next().await {
        if let Event::Incoming { call, .. } = event {
            // It may be over by now.
            let _ = blink.answer(call).await;
        }
    }
}

//! A node with contacts, all of whom it keeps connected who are online, and who call nobody.

use std::{
    net::{Ipv4Addr, SocketAddr},
    thread,
};

use blink_tests::e2e::Proxy;

use crate::{
    child::Child,
    orders::{Order, multiaddr},
    run::Scale,
    watch::{self, look, milli_per_second, tell},
};

/// The node that is measured.
const OWN: u32 = 20_000;

/// The first of its contacts.
const FIRST: u32 = 21_000;

/// Somebody whom it calls.
const CALLED: u32 = 30_000;

pub(crate) fn measure(scale: &Scale) -> Result<(), String> {
    not_kept(scale)?;
    let mut phone = Child::keeper(OWN, &scale.speech)?;
    // All that passes between it and the others goes through here: they connect to it.
    let proxy = Proxy::new(socket(&phone.address)?).map_err(|error| format!("a proxy: {error}"))?;
    let at = multiaddr(OWN, proxy.port());
    let mut crowd = Child::crowd(FIRST, &["--friend", &OWN.to_string(), "--at", &at])?;
    let (mut known, mut there) = (0, 0);
    for &(contacts, online) in scale.contacts {
        // Those who are online come first, so that they are among those who are kept.
        phone.have(&Order::Befriend { first: FIRST + known, count: contacts - known })?;
        if online > there {
            crowd.more(online - there)?;
        }
        (known, there) = (contacts, online);
        let wanted = u64::from(online);
        phone.until("connected with those who are online", |sample| sample.connected >= wanted)?;
        thread::sleep(2 * scale.settle);
        let passed = proxy.passed();
        let [done, others] = look([&mut phone, &mut crowd], scale.watch)?;
        let now = proxy.passed();
        let of = |figure: &str| format!("contacts/{contacts}/{figure}");
        tell(of("online"), online);
        tell(of("connected"), done.after.connected);
        tell(of("cpu_ppm"), done.cpu_ppm);
        tell(of("crowd_cpu_ppm"), others.cpu_ppm);
        // To it leads "there".
        for (direction, name) in ["in", "out"].into_iter().enumerate() {
            let bytes = now[direction].bytes - passed[direction].bytes;
            let pieces = now[direction].pieces - passed[direction].pieces;
            tell(of(&format!("{name}_bytes_milli")), milli_per_second(bytes, done.time));
            tell(of(&format!("{name}_messages_milli")), milli_per_second(pieces, done.time));
        }
        let signals = done.after.published.messages - done.before.published.messages;
        tell(of("signals"), signals + done.after.heard_of - done.before.heard_of);
        let held = phone.held()?;
        watch::tell_memory(&format!("contacts/{contacts}"), &held);
        tell(of("sockets"), held.sockets);
        in_a_call(scale, &mut phone, contacts, "contacts")?;
    }
    Ok(())
}

/// A node as it is if nobody asks for more: it knows its contacts and is connected with none of them.
fn not_kept(scale: &Scale) -> Result<(), String> {
    let contacts = scale.not_kept;
    let mut phone = Child::phone(OWN - 1, &scale.speech)?;
    phone.have(&Order::Befriend { first: FIRST, count: contacts })?;
    thread::sleep(scale.settle);
    watch::tell_memory(&format!("not_kept/{contacts}"), &phone.held()?);
    in_a_call(scale, &mut phone, contacts, "not_kept")
}

/// What it holds with one call.
fn in_a_call(scale: &Scale, phone: &mut Child, contacts: u32, kind: &str) -> Result<(), String> {
    let number = CALLED + contacts;
    let other = Child::phone(number, &scale.speech)?;
    phone.forget();
    phone.tell(&Order::Call { who: vec![(number, other.address.clone())] })?;
    phone.of_all("heard", 1)?;
    thread::sleep(scale.settle);
    let [done] = look([phone], scale.look)?;
    watch::hears(&done, 1)?;
    tell(format_args!("{kind}/{contacts}/call_cpu_ppm"), done.cpu_ppm);
    watch::tell_memory(&format!("{kind}/{contacts}/call"), &phone.held()?);
    phone.have(&Order::HangUp)?;
    phone.wait("ended").map(drop)
}

fn socket(address: &str) -> Result<SocketAddr, String> {
    let port = address.split('/').nth(4).and_then(|port| port.parse().ok());
    port.map(|port| SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
        .ok_or_else(|| format!("{address} names no port"))
}

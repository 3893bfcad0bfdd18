//! A STUN and TURN server in memory (RFC 8489, RFC 8656): what a test of relayed paths needs, for clients that behave.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;

use tokio::sync::mpsc;
use webrtc::runtime::AsyncUdpSocket;

use super::net::Net;

const COOKIE: [u8; 4] = [0x21, 0x12, 0xa4, 0x42];
const USERNAME: u16 = 0x06;
const ERROR_CODE: u16 = 0x09;
const CHANNEL_NUMBER: u16 = 0x0c;
const LIFETIME: u16 = 0x0d;
const XOR_PEER_ADDRESS: u16 = 0x12;
const DATA: u16 = 0x13;
const REALM: u16 = 0x14;
const NONCE: u16 = 0x15;
const XOR_RELAYED_ADDRESS: u16 = 0x16;
const XOR_MAPPED_ADDRESS: u16 = 0x20;

/// Where the server listens. It serves until the runtime ends.
pub(super) fn start(net: &Arc<Net>) -> SocketAddr {
    let socket = net.open();
    let address = socket.local_addr().expect("bound");
    tokio::spawn(serve(net.clone(), socket, true));
    address
}

/// The same, but no password is the right one.
pub(super) fn start_refusing(net: &Arc<Net>) -> SocketAddr {
    let socket = net.open();
    let address = socket.local_addr().expect("bound");
    tokio::spawn(serve(net.clone(), socket, false));
    address
}

struct Allocation {
    relay: Arc<dyn AsyncUdpSocket>,
    channels: HashMap<SocketAddr, u16>,
}

async fn serve(net: Arc<Net>, socket: Arc<dyn AsyncUdpSocket>, admits: bool) {
    let mut allocations: HashMap<SocketAddr, Allocation> = HashMap::new();
    let (from_peers, mut arriving) = mpsc::unbounded_channel::<(SocketAddr, SocketAddr, Vec<u8>)>();
    let mut buffer = vec![0; 2000];
    loop {
        tokio::select! {
            received = socket.recv_from(&mut buffer) => {
                let (len, client) = received.expect("in memory");
                let message = &buffer[..len];
                if message[0] & 0xc0 == 0x40 {
                    let allocation = &allocations[&client];
                    let number = u16::from_be_bytes([message[0], message[1]]);
                    let (peer, _) = allocation.channels.iter().find(|(_, n)| **n == number).expect("bound");
                    let len = usize::from(u16::from_be_bytes([message[2], message[3]]));
                    let _ = allocation.relay.send_to(&message[4..4 + len], *peer).await;
                    continue;
                }
                let answer = match u16::from_be_bytes([message[0], message[1]]) {
                    0x0001 => Some((0x0101, encode(XOR_MAPPED_ADDRESS, &xor(client)))),
                    0x0003 if !admits || attribute(message, USERNAME).is_none() => {
                        let mut attributes = encode(ERROR_CODE, &[0, 0, 4, 1]);
                        attributes.extend(encode(REALM, b"home"));
                        attributes.extend(encode(NONCE, b"once"));
                        Some((0x0113, attributes))
                    }
                    0x0003 => {
                        let relay = net.open();
                        let address = relay.local_addr().expect("bound");
                        tokio::spawn(read(relay.clone(), client, from_peers.clone()));
                        allocations.insert(client, Allocation { relay, channels: HashMap::new() });
                        let mut attributes = encode(XOR_RELAYED_ADDRESS, &xor(address));
                        attributes.extend(encode(XOR_MAPPED_ADDRESS, &xor(client)));
                        attributes.extend(encode(LIFETIME, &600_u32.to_be_bytes()));
                        Some((0x0103, attributes))
                    }
                    0x0004 => Some((0x0104, encode(LIFETIME, &600_u32.to_be_bytes()))),
                    0x0008 => Some((0x0108, Vec::new())),
                    0x0009 => {
                        let number = attribute(message, CHANNEL_NUMBER).expect("a number");
                        let number = u16::from_be_bytes([number[0], number[1]]);
                        let peer = unxor(attribute(message, XOR_PEER_ADDRESS).expect("a peer"));
                        allocations.get_mut(&client).expect("allocated").channels.insert(peer, number);
                        Some((0x0109, Vec::new()))
                    }
                    0x0016 => {
                        let peer = unxor(attribute(message, XOR_PEER_ADDRESS).expect("a peer"));
                        let data = attribute(message, DATA).expect("data");
                        let _ = allocations[&client].relay.send_to(data, peer).await;
                        None
                    }
                    _ => None,
                };
                if let Some((kind, attributes)) = answer {
                    let _ = socket.send_to(&stun(kind, &message[8..20], &attributes), client).await;
                }
            }
            Some((client, peer, data)) = arriving.recv() => {
                let message = match allocations[&client].channels.get(&peer) {
                    Some(number) => {
                        let head = [number.to_be_bytes(), (data.len() as u16).to_be_bytes()].concat();
                        [&head[..], &data].concat()
                    }
                    None => {
                        let mut attributes = encode(XOR_PEER_ADDRESS, &xor(peer));
                        attributes.extend(encode(DATA, &data));
                        stun(0x0017, &[7; 12], &attributes)
                    }
                };
                let _ = socket.send_to(&message, client).await;
            }
        }
    }
}

async fn read(
    relay: Arc<dyn AsyncUdpSocket>,
    client: SocketAddr,
    arrived: mpsc::UnboundedSender<(SocketAddr, SocketAddr, Vec<u8>)>,
) {
    let mut buffer = vec![0; 2000];
    while let Ok((len, peer)) = relay.recv_from(&mut buffer).await {
        if arrived.send((client, peer, buffer[..len].to_vec())).is_err() {
            break;
        }
    }
}

fn stun(kind: u16, transaction: &[u8], attributes: &[u8]) -> Vec<u8> {
    let mut message = [kind.to_be_bytes(), (attributes.len() as u16).to_be_bytes()].concat();
    message.extend(COOKIE);
    message.extend(transaction);
    message.extend(attributes);
    message
}

fn encode(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut attribute = [kind.to_be_bytes(), (value.len() as u16).to_be_bytes()].concat();
    attribute.extend(value);
    attribute.resize(attribute.len().next_multiple_of(4), 0);
    attribute
}

fn attribute(message: &[u8], wanted: u16) -> Option<&[u8]> {
    let mut rest = &message[20..];
    while rest.len() >= 4 {
        let (kind, len) = (u16::from_be_bytes([rest[0], rest[1]]), u16::from_be_bytes([rest[2], rest[3]]));
        let len = usize::from(len);
        if kind == wanted {
            return Some(&rest[4..4 + len]);
        }
        rest = &rest[(4 + len.next_multiple_of(4)).min(rest.len())..];
    }
    None
}

/// Of IPv4 only.
fn xor(address: SocketAddr) -> Vec<u8> {
    let IpAddr::V4(ip) = address.ip() else { panic!("IPv4 only") };
    let mut value = vec![0, 1];
    value.extend((address.port() ^ 0x2112).to_be_bytes());
    value.extend(ip.octets().iter().zip(COOKIE).map(|(a, b)| a ^ b));
    value
}

fn unxor(value: &[u8]) -> SocketAddr {
    let port = u16::from_be_bytes([value[2], value[3]]) ^ 0x2112;
    let mut octets = [0; 4];
    for (at, octet) in octets.iter_mut().enumerate() {
        *octet = value[4 + at] ^ COOKIE[at];
    }
    SocketAddr::from((Ipv4Addr::from(octets), port))
}

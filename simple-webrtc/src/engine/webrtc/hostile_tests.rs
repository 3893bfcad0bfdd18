//! Damaged descriptions and candidates: the engine may refuse them, but must not panic.

use super::*;
use crate::engine::Inbox;

/// Small and repeatable; quality does not matter here.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % sides
    }

    fn damage(&mut self, text: &str) -> String {
        let mut lines: Vec<String> = text.split("\r\n").map(str::to_owned).collect();
        for _ in 0..=self.roll(4) {
            let at = self.roll(lines.len());
            match self.roll(6) {
                0 if lines.len() > 1 => drop(lines.remove(at)),
                1 => lines.insert(at, lines[self.roll(lines.len())].clone()),
                2 => {
                    let other = self.roll(lines.len());
                    lines.swap(at, other);
                }
                3 => {
                    let keep = self.roll(lines[at].len() + 1);
                    lines[at].truncate(keep);
                }
                4 => {
                    lines[at] =
                        lines[at].replace(['1', '9', ' '], ["", "99999999999", ":", "-1"][self.roll(4)])
                }
                _ => {
                    let byte = self.roll(lines[at].len() + 1);
                    lines[at].insert(byte, char::from(0x20 + self.roll(0x5f) as u8));
                }
            }
        }
        lines.join("\r\n")
    }
}

fn config() -> Config {
    Config::builder().addresses([std::net::Ipv4Addr::LOCALHOST.into()]).build().expect("valid")
}

#[tokio::test]
async fn damaged_descriptions_and_candidates_do_not_panic() {
    let inbox = Inbox::new();
    let source =
        WebrtcConnection::open(&Webrtc::default(), &config(), inbox.sender()).await.expect("loopback");
    let offer = source.offer(false).await.expect("offer");
    source.close().await;

    let mut dice = Dice(7);
    let (mut parsed, mut refused, mut answered) = (0, 0, 0);
    for _ in 0..400 {
        let damaged = dice.damage(offer.as_str());
        let Ok(description) = Description::parse(DescriptionKind::Offer, &damaged) else { continue };
        parsed += 1;
        let inbox = Inbox::new();
        let connection =
            WebrtcConnection::open(&Webrtc::default(), &config(), inbox.sender()).await.expect("loopback");
        match connection.answer(&description).await {
            Ok(_) => {
                answered += 1;
                let text =
                    dice.damage("candidate:1 1 udp 2130706431 127.0.0.1 9 typ host raddr 0.0.0.0 rport 9");
                if let Ok(candidate) = Candidate::parse(&text) {
                    connection.add_candidate(&candidate).await;
                }
            }
            Err(_) => refused += 1,
        }
        connection.close().await;
    }
    assert!(
        parsed > 100 && refused > 10 && answered > 10,
        "{parsed} parsed: {refused} refused, {answered} answered"
    );
}

/// The same on a connection that exists: further offers and answers, with videos in them, over and over.
#[tokio::test]
async fn damaged_renegotiations_do_not_panic() {
    let mut dice = Dice(11);
    let (mut refused, mut answered, mut accepted) = (0, 0, 0);
    for _ in 0..25 {
        let (inbox_a, inbox_b) = (Inbox::new(), Inbox::new());
        let own = Webrtc::default();
        let a = WebrtcConnection::open(&own, &config(), inbox_a.sender()).await.expect("loopback");
        let b = WebrtcConnection::open(&own, &config(), inbox_b.sender()).await.expect("loopback");
        for connection in [&a, &b] {
            connection.open_channel(None).await.expect("a channel");
        }
        let offer = a.offer(false).await.expect("offer");
        a.accept_answer(&b.answer(&offer).await.expect("answer")).await.expect("accept");
        a.add_video(crate::track::VideoCodec::Vp8).await.expect("room");
        for round in 0..12 {
            let Ok(offer) = a.offer(dice.roll(3) == 0).await else { break };
            let damaged = dice.damage(offer.as_str());
            if let Ok(damaged) = Description::parse(DescriptionKind::Offer, &damaged) {
                match b.answer(&damaged).await {
                    Ok(answer) => {
                        answered += 1;
                        let damaged = dice.damage(answer.as_str());
                        if let Ok(damaged) = Description::parse(DescriptionKind::Answer, &damaged) {
                            match a.accept_answer(&damaged).await {
                                Ok(()) => accepted += 1,
                                Err(_) => refused += 1,
                            }
                        }
                    }
                    Err(_) => refused += 1,
                }
            }
            if round % 4 == 3 {
                let _ = b.add_video(crate::track::VideoCodec::H264).await;
                let _ = b.offer(false).await;
                let _ = b.roll_back().await;
            }
        }
        a.close().await;
        b.close().await;
    }
    assert!(
        refused > 10 && answered > 10 && accepted > 5,
        "{refused} refused, {answered} answered, {accepted} accepted"
    );
}

//! Effects and events in few words, for tables and for lists of what happened.

use warp_blink::{
    event::Event,
    proto::{
        EffectKind, TopicRef,
        signal::{CallBody, Lane},
    },
};

/// An event in few words, without what differs between runs.
pub(crate) fn short(event: &Event) -> String {
    match event {
        Event::Node { state } => format!("node {state:?}"),
        Event::Findable { state } => format!("findable {state:?}"),
        Event::Reached { .. } => "reached".into(),
        Event::Offering { .. } => "offering".into(),
        Event::Incoming { .. } => "incoming".into(),
        Event::Ringing { .. } => "ringing".into(),
        Event::Accepted { .. } => "accepted".into(),
        Event::Link { state, .. } => format!("link {}", state.name()),
        Event::Participant { state, .. } => {
            let presence = format!("{:?}", state.presence).to_lowercase();
            let words = [
                (true, presence.as_str()),
                (state.muted, "muted"),
                (state.deafened, "deafened"),
                (state.camera, "camera"),
                (state.screen, "screen"),
                (state.recording, "recording"),
                (state.speaking, "speaking"),
                (state.held, "held"),
            ];
            let words: Vec<_> = words.iter().filter(|(on, _)| *on).map(|(_, word)| *word).collect();
            format!("participant {}", words.join("+"))
        }
        Event::Merged { .. } => "merged".into(),
        Event::MediaStarted { .. } => "media".into(),
        Event::FirstAudio { .. } => "first audio".into(),
        Event::Warning { warning } => format!("warning {warning:?}"),
        Event::Missed { reason, .. } => format!("missed {reason:?}"),
        Event::Channel { name, .. } => format!("channel {name}"),
        Event::Device { kind, name, .. } => format!("device {kind:?} {}", name.as_deref().unwrap_or("none")),
        Event::Recording { running, .. } => format!("recording {running}"),
        Event::Played { .. } => "played".into(),
        Event::Quality { poor, .. } => format!("quality {poor:?}"),
        Event::Held { held, .. } => format!("held {held}"),
        Event::Left { .. } => "left".into(),
        Event::Rejoined { .. } => "rejoined".into(),
        Event::Ended { reason, .. } => format!("ended {reason:?}"),
        other => panic!("a new event needs a name here: {other:?}"),
    }
}

/// An effect in few words.
pub(crate) fn effect_name(effect: &EffectKind) -> String {
    let topic = |topic: &TopicRef| match topic {
        TopicRef::Inbox { lane: Lane::Strangers, .. } => "inbox".to_owned(),
        TopicRef::Inbox { .. } => "contacts inbox".to_owned(),
        TopicRef::Peer { .. } => "peer topic".to_owned(),
        TopicRef::Call { epoch, .. } => format!("call topic {}", epoch.n),
    };
    match effect {
        EffectKind::Emit(event) => format!("emit {}", short(event)),
        EffectKind::Subscribe(t) => format!("subscribe {}", topic(t)),
        EffectKind::Unsubscribe(t) => format!("leave {}", topic(t)),
        EffectKind::Reach { .. } => "reach".into(),
        EffectKind::SendHello { hello, .. } => format!("send hello {:?}", hello.kind),
        EffectKind::SendWelcome { welcome, .. } => format!("send welcome {:?}", welcome.status),
        EffectKind::Send { packet, .. } => {
            let body = format!("{:?}", packet.body);
            format!("send {}", body.split('(').next().unwrap_or_default())
        }
        EffectKind::SendOnLink { packet, .. } => {
            let body = format!("{:?}", packet.body);
            format!("say {}", body.split('(').next().unwrap_or_default())
        }
        EffectKind::SendCall { body: CallBody::Announce(_), .. } => "send Announce".into(),
        EffectKind::SendCall { .. } => "send Leave".into(),
        EffectKind::NewCallKey { n, .. } => format!("new call key {n}"),
        EffectKind::KeepCallKey { epoch, .. } => format!("keep call key {}", epoch.n),
        EffectKind::DropCallKey { epoch, .. } => format!("drop call key {}", epoch.n),
        EffectKind::Sign { record, .. } => format!("sign {:?}", record.kind),
        EffectKind::KeepRoll { .. } => "keep roll".into(),
        EffectKind::SaveCall { .. } => "save call".into(),
        EffectKind::UnsaveCall { .. } => "unsave call".into(),
        EffectKind::SaveNotices => "save notices".into(),
        EffectKind::DropPeer { .. } => "drop peer".into(),
        EffectKind::Learn { .. } => "learn".into(),
        EffectKind::Link { command, .. } => {
            let command = format!("{command:?}");
            format!("link {}", command.split('(').next().unwrap_or_default())
        }
        EffectKind::Prepare { connections } => format!("prepare {connections}"),
        EffectKind::OpenAudio { .. } => "open audio".into(),
        EffectKind::CloseAudio { .. } => "close audio".into(),
        EffectKind::SetMuted(on) => format!("set muted {on}"),
        EffectKind::SetDeafened(on) => format!("set deafened {on}"),
        EffectKind::Forget { .. } => "forget".into(),
        EffectKind::Keep { gift, .. } => format!("keep {gift:?}"),
        EffectKind::NewToken => "new token".into(),
        EffectKind::Remember { .. } => "remember".into(),
        EffectKind::DropSession { .. } => "drop session".into(),
        other => panic!("a new effect needs a name here: {other:?}"),
    }
}

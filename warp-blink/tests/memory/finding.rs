//! People whose nodes have other keys than they have: only a signed record says where they are.

use warp_blink::{Blink, Config, EndReason, Event, Memory, NodeKey, event::Warning};

use super::phone::{PATIENCE, Phone, identity};

#[tokio::test]
async fn a_record_leads_to_a_node_of_another_key_and_without_one_nobody_is_asked() {
    let memory = Memory::default();
    let common = Phone::start(&memory, 1, Config::default()).await;
    let through = format!("/memory/1/p2p/{}", common.blink.node_id());
    let node_key = NodeKey::from_seed([9; 32]);
    let of = |seed| Blink::builder(identity(seed)).memory(&memory);
    let mut bob = Phone::of(of(2).node_key(node_key).bootstrap(through.clone())).await;
    let mut alice = Phone::of(of(3).bootstrap(through)).await;
    let tries = async {
        loop {
            let call = alice.blink.offer([bob.key()]).await.unwrap();
            let there = alice
                .wait("whether he is found", |e| match e {
                    Event::Reached { .. } => Some(None),
                    Event::Warning { warning: Warning::NotReached { cause, .. } } => {
                        Some(Some(cause.clone()))
                    }
                    _ => None,
                })
                .await;
            // His record goes out some seconds after his start.
            let Some(cause) = there else { return call };
            assert!(cause.contains("asked in vain: signed records"), "{cause}");
            assert_eq!(alice.ended(call).await.0, EndReason::Unreachable);
        }
    };
    let call = tokio::time::timeout(PATIENCE, tries).await.expect("he is found");
    assert_eq!(bob.incoming().await, call);

    let mut carol = Phone::start(&memory, 4, Config::default()).await;
    let call = carol.blink.offer([bob.key()]).await.unwrap();
    let cause = carol
        .wait("that he is not found", |e| match e {
            Event::Warning { warning: Warning::NotReached { cause, .. } } => Some(cause.clone()),
            _ => None,
        })
        .await;
    assert!(!cause.contains("asked"), "{cause}");
    assert_eq!(carol.ended(call).await.0, EndReason::Unreachable);
}

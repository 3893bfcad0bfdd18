//! Workers: one hands jobs to the node and one to the media, each in order. What comes of them goes back as results.

use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use tokio::sync::{mpsc, oneshot};

use crate::{
    ports::{
        gossip::{Gossip, PublishError},
        media::{Media, MediaCommand, MediaError},
    },
    proto::{EffectId, Outcome},
    wire::Topic,
};

/// A command for the media, the effect that it carries out, and who waits for it.
pub(super) type MediaJob = (Option<EffectId>, MediaCommand, Option<Reply>);

/// Who waits for a command.
pub(super) type Reply = oneshot::Sender<Result<(), MediaError>>;

/// Something for the node to do.
pub(super) enum Job {
    Subscribe(Topic),
    Unsubscribe(Topic),
    Publish(Topic, Bytes),
    /// Be told of those who subscribe to these.
    Watch(BTreeSet<Topic>),
}

/// A job, and the effect that it carries out.
pub(super) type NodeJob = (Option<EffectId>, Job);

pub(super) async fn node_worker(
    gossip: Arc<dyn Gossip>,
    mut jobs: mpsc::Receiver<NodeJob>,
    results: mpsc::Sender<(EffectId, Outcome)>,
) {
    while let Some((id, job)) = jobs.recv().await {
        let outcome = match job {
            Job::Subscribe(topic) => failed(gossip.subscribe(topic).await),
            Job::Unsubscribe(topic) => failed(gossip.unsubscribe(topic).await),
            Job::Publish(topic, data) => match gossip.publish(topic, data).await {
                Ok(()) => Outcome::Ok,
                Err(PublishError::NoPeers) => Outcome::NoPeers,
                Err(error) => Outcome::Failed(error.to_string()),
            },
            Job::Watch(topics) => failed(gossip.watch(topics).await),
        };
        if let Some(id) = id {
            // While the task winds down nobody reads results, and what is queued still goes out.
            let _ = results.send((id, outcome)).await;
        }
    }
}

pub(super) async fn media_worker(
    media: Arc<dyn Media>,
    mut jobs: mpsc::Receiver<MediaJob>,
    results: mpsc::Sender<(EffectId, Outcome)>,
) {
    while let Some((id, command, reply)) = jobs.recv().await {
        let result = media.execute(command).await;
        if let Some(reply) = reply {
            let _ = reply.send(result.clone());
        }
        if let Some(id) = id {
            let _ = results.send((id, failed(result))).await;
        }
    }
}

fn failed<E: std::fmt::Display>(result: Result<(), E>) -> Outcome {
    match result {
        Ok(()) => Outcome::Ok,
        Err(error) => {
            tracing::debug!(%error, "effect failed");
            Outcome::Failed(error.to_string())
        }
    }
}

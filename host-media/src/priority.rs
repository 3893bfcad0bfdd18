//! Threads that must be in time before ordinary ones, where the system allows it.

use thread_priority::ThreadPriority;

/// Asks the system to run this thread before ordinary ones; false if it refuses, which is usual and no fault.
///
/// On Unix this is the lowest of the real-time priorities: before everything that is not in a hurry, behind everything
/// that the system itself has in a hurry. Threads that this one starts inherit it.
pub(crate) fn raise() -> bool {
    match ask() {
        Ok(()) => true,
        Err(e) => {
            tracing::debug!(error = ?e, "the audio thread has no raised priority");
            false
        }
    }
}

#[cfg(unix)]
fn ask() -> Result<(), thread_priority::Error> {
    use thread_priority::{
        RealtimeThreadSchedulePolicy, ThreadSchedulePolicy, set_thread_priority_and_policy, thread_native_id,
    };
    // In turns with others of the same priority: several engines share what there is.
    let policy = ThreadSchedulePolicy::Realtime(RealtimeThreadSchedulePolicy::RoundRobin);
    set_thread_priority_and_policy(thread_native_id(), ThreadPriority::Min, policy)
}

#[cfg(not(unix))]
fn ask() -> Result<(), thread_priority::Error> {
    thread_priority::set_current_thread_priority(ThreadPriority::Max)
}

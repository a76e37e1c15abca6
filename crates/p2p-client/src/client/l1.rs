//! Follows a view of L1: its head, its reorgs, and changes of the schedule.

use p2p_types::{L1Update, L1View, UnixSeconds};

use super::{ChainApi, retried};
use crate::P2pClientError;

impl ChainApi {
    /// Follows a view of L1 until it ends, in place of [`update_l1_head`](Self::update_l1_head),
    /// [`notify_reorg`](Self::notify_reorg) and [`notify_schedule_changed`](Self::notify_schedule_changed).
    ///
    /// With the first head all that is stored above the base is judged again, as L1 may have changed the schedule while
    /// the client was down. What a later change concerns is judged with the head that follows it, by all that is known by
    /// then. Where the store fails for a while, it is asked until it has done it.
    ///
    /// May be cancelled, and called again. One view at a time is to be followed.
    ///
    /// # Errors
    /// [`P2pClientError::Storage`] that waiting cannot heal, [`P2pClientError::Closed`].
    pub async fn follow_l1(&self, mut view: impl L1View) -> Result<(), P2pClientError> {
        let mut changed = Some(UnixSeconds::default());
        let ended = self.client.wait_for(|_| false);
        tokio::pin!(ended);
        loop {
            let update = tokio::select! {
                biased;
                ended = &mut ended => return ended,
                update = view.next_update() => update,
            };
            match update {
                Some(L1Update::Head(number)) => {
                    self.update_l1_head(number).await?;
                    if let Some(since) = changed.take() {
                        drop(retried(|| self.notify_schedule_changed(since)).await?);
                    }
                }
                // Log and events tell what it has changed.
                Some(L1Update::Reorg { lowest }) => drop(retried(|| self.notify_reorg(lowest)).await?),
                Some(L1Update::ScheduleChanged { since }) => {
                    changed = Some(changed.map_or(since, |earlier| earlier.min(since)));
                }
                Some(L1Update::Lost) => {
                    tracing::warn!(
                        "updates of L1 were lost: the schedule is judged anew, which anchors were replaced is not known"
                    );
                    changed = Some(UnixSeconds::default());
                }
                Some(_) => {}
                None => return Ok(()),
            }
        }
    }
}

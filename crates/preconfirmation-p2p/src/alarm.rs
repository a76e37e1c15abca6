//! Spares a task the question whether there is news from whom there seldom is any.

use std::{
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::{Context, Poll, Wake, Waker},
};

/// Stands between a sleeper and the task that polls it.
#[derive(Debug)]
pub(crate) struct Alarm {
    bell: Arc<Bell>,
    /// What the sleeper sees as the task's waker.
    waker: Waker,
    /// The waker of the task, as the bell has it.
    task: Waker,
}

#[derive(Debug)]
struct Bell {
    rung: AtomicBool,
    task: Mutex<Waker>,
}

impl Wake for Bell {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.rung.store(true, Ordering::Release);
        self.task.lock().unwrap_or_else(PoisonError::into_inner).wake_by_ref();
    }
}

impl Alarm {
    /// Rings at once: whoever is new is asked.
    pub(crate) fn new() -> Self {
        let task = Waker::noop().clone();
        let bell = Arc::new(Bell { rung: AtomicBool::new(true), task: Mutex::new(task.clone()) });
        Self { waker: Arc::clone(&bell).into(), bell, task }
    }

    /// The caller is about to change the sleeper, and polls it by its own duty after that.
    pub(crate) fn ring(&self) {
        self.bell.rung.store(true, Ordering::Release);
    }

    /// Asks the sleeper if the alarm has rung since it had nothing to say.
    pub(crate) fn poll<T>(
        &mut self,
        cx: &Context<'_>,
        ask: impl FnOnce(&mut Context<'_>) -> Poll<T>,
    ) -> Poll<T> {
        // First this, then the question: a ring in between is answered or wakes the task, and is never lost.
        if !self.task.will_wake(cx.waker()) {
            self.task.clone_from(cx.waker());
            self.bell.task.lock().unwrap_or_else(PoisonError::into_inner).clone_from(cx.waker());
        }
        // A look costs less than the swap, and mostly there was no ring.
        let rung = &self.bell.rung;
        if !(rung.load(Ordering::Acquire) && rung.swap(false, Ordering::AcqRel)) {
            return Poll::Pending;
        }
        let answer = ask(&mut Context::from_waker(&self.waker));
        if answer.is_ready() {
            // There may be more.
            self.ring();
        }
        answer
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts how often it is woken.
    #[derive(Default)]
    struct Task(std::sync::atomic::AtomicUsize);

    impl Wake for Task {
        fn wake(self: Arc<Self>) {
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }

    #[test]
    fn a_sleeper_is_asked_when_something_concerns_it_and_not_before() {
        let (mut alarm, task) = (Alarm::new(), Arc::new(Task::default()));
        let waker = Waker::from(Arc::clone(&task));
        let cx = Context::from_waker(&waker);
        let ask = |alarm: &mut Alarm, answer| {
            let mut asked = false;
            let answer = alarm.poll(&cx, |_| {
                asked = true;
                answer
            });
            (asked, answer)
        };
        assert_eq!(ask(&mut alarm, Poll::Ready(1)), (true, Poll::Ready(1)), "new");
        assert_eq!(ask(&mut alarm, Poll::Pending), (true, Poll::Pending), "there may be more");
        assert_eq!(ask(&mut alarm, Poll::Ready(2)), (false, Poll::Pending), "nothing has happened");

        alarm.ring();
        assert!(ask(&mut alarm, Poll::Pending).0, "it was changed");
        assert_eq!(task.0.load(Ordering::Relaxed), 0);

        let mut own = None;
        alarm.ring();
        let _pending: Poll<()> = alarm.poll(&cx, |cx| {
            own = Some(cx.waker().clone());
            Poll::Pending
        });
        own.unwrap().wake();
        assert_eq!(task.0.load(Ordering::Relaxed), 1, "its waker wakes the task");
        assert!(ask(&mut alarm, Poll::Pending).0, "and lets it be asked");
        assert!(!ask(&mut alarm, Poll::Pending).0);
    }

    #[test]
    fn a_waker_that_is_called_while_the_sleeper_is_asked_is_not_lost() {
        let (mut alarm, task) = (Alarm::new(), Arc::new(Task::default()));
        let waker = Waker::from(Arc::clone(&task));
        let cx = Context::from_waker(&waker);
        let answer: Poll<()> = alarm.poll(&cx, |cx| {
            cx.waker().wake_by_ref();
            Poll::Pending
        });
        assert!(answer.is_pending());
        assert_eq!(task.0.load(Ordering::Relaxed), 1);
        assert!(alarm.poll(&cx, |_| Poll::Ready(())).is_ready());
    }
}

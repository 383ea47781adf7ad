//! An executor that a seed reproduces: one thread, one poll at a time, in an order that the seed chooses.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    future::Future,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
};

use locus_core::Entropy;
use parking_lot::Mutex;

use crate::entropy::SeededEntropy;

/// How often in a row [`Stepper::block_on`] asks for outside progress before it takes the run for stuck.
const IDLE_ROUNDS_MAX: u32 = 1_000_000;

/// A task of a [`Stepper`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TaskId(u64);

/// A deterministic executor without a runtime. Each step polls one task, chosen by the seed among those that were woken.
///
/// Tasks may be `!Send`; their wakers may be called from any thread.
///
/// ```
/// use std::{cell::Cell, rc::Rc};
/// use locus_testkit::Stepper;
///
/// let mut stepper = Stepper::new(7);
/// let done = Rc::new(Cell::new(0));
/// for _ in 0..3 {
///     let done = done.clone();
///     stepper.spawn(async move { done.set(done.get() + 1) });
/// }
/// stepper.run_until_idle();
/// assert_eq!(done.get(), 3);
/// ```
pub struct Stepper {
    tasks: BTreeMap<TaskId, Pin<Box<dyn Future<Output = ()>>>>,
    woken: Arc<Woken>,
    entropy: SeededEntropy,
    next: u64,
}

/// The tasks that were woken since their last poll.
#[derive(Default)]
struct Woken(Mutex<BTreeSet<TaskId>>);

struct TaskWaker {
    task: TaskId,
    woken: Arc<Woken>,
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.woken.0.lock().insert(self.task);
    }
}

impl Stepper {
    /// An executor without tasks.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self {
            tasks: BTreeMap::new(),
            woken: Arc::new(Woken::default()),
            entropy: SeededEntropy::new(seed),
            next: 0,
        }
    }

    /// Takes on a task. It runs as soon as it is chosen.
    pub fn spawn(&mut self, future: impl Future<Output = ()> + 'static) -> TaskId {
        let task = self.new_id();
        self.tasks.insert(task, Box::pin(future));
        task
    }

    /// Cancels a task by dropping its future; `false` when it had ended before.
    pub fn drop_task(&mut self, task: TaskId) -> bool {
        self.woken.0.lock().remove(&task);
        self.tasks.remove(&task).is_some()
    }

    /// Whether the task has ended or was dropped.
    #[must_use]
    pub fn is_done(&self, task: TaskId) -> bool {
        !self.tasks.contains_key(&task)
    }

    /// The tasks that have not ended, oldest first.
    #[must_use]
    pub fn tasks(&self) -> Vec<TaskId> {
        self.tasks.keys().copied().collect()
    }

    /// Polls one woken task; `false` when none is woken.
    pub fn step(&mut self) -> bool {
        let Some(task) = self.choose() else { return false };
        self.poll(task);
        true
    }

    /// Steps until no task is woken.
    pub fn run_until_idle(&mut self) {
        while self.step() {}
    }

    /// Runs `future` to its end, the other tasks beside it. When nobody is woken, `idle` makes progress from outside:
    /// one step of a committer, the clock moved to the next deadline.
    ///
    /// # Panics
    /// When nobody is woken and `idle` says `false`: the run would wait for ever; or when `idle` says `true` a
    /// million times in a row without waking anybody.
    pub fn block_on<F: Future>(&mut self, future: F, mut idle: impl FnMut() -> bool) -> F::Output {
        let main = self.new_id();
        let waker = self.waker(main);
        let mut future = pin!(future);
        let mut idle_rounds = 0;
        loop {
            match self.choose() {
                Some(task) if task == main => {
                    idle_rounds = 0;
                    if let Poll::Ready(output) = future.as_mut().poll(&mut Context::from_waker(&waker)) {
                        self.woken.0.lock().remove(&main);
                        return output;
                    }
                }
                Some(task) => {
                    idle_rounds = 0;
                    self.poll(task);
                }
                None => {
                    assert!(idle(), "deadlock: nobody is woken, {} other tasks wait", self.tasks.len());
                    idle_rounds += 1;
                    assert!(idle_rounds < IDLE_ROUNDS_MAX, "livelock: progress from outside wakes nobody");
                }
            }
        }
    }

    /// A number nobody had before, already woken for its first poll.
    fn new_id(&mut self) -> TaskId {
        self.next += 1;
        let task = TaskId(self.next);
        self.woken.0.lock().insert(task);
        task
    }

    fn waker(&self, task: TaskId) -> Waker {
        Waker::from(Arc::new(TaskWaker { task, woken: self.woken.clone() }))
    }

    /// Takes one of the woken tasks off the list.
    fn choose(&self) -> Option<TaskId> {
        let mut woken = self.woken.0.lock();
        let count = woken.len();
        if count == 0 {
            return None;
        }
        let at =
            usize::try_from(self.entropy.next_u64() % count as u64).expect("because it is below a usize");
        let task = *woken.iter().nth(at).expect("because the number is below the count");
        woken.remove(&task);
        Some(task)
    }

    /// Polls a task, unless it has ended in the meantime: a late wake-up is no error.
    fn poll(&mut self, task: TaskId) {
        let waker = self.waker(task);
        let Some(future) = self.tasks.get_mut(&task) else { return };
        if future.as_mut().poll(&mut Context::from_waker(&waker)).is_ready() {
            self.tasks.remove(&task);
            self.woken.0.lock().remove(&task);
        }
    }
}

impl fmt::Debug for Stepper {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stepper")
            .field("tasks", &self.tasks.len())
            .field("woken", &self.woken.0.lock().len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::{
        cell::{Cell, RefCell},
        future::poll_fn,
        rc::Rc,
        time::Duration,
    };

    use locus_core::Clock;

    use super::*;
    use crate::manual_clock::ManualClock;

    /// Gives way once.
    async fn yield_now() {
        let mut yielded = false;
        poll_fn(|cx| {
            if std::mem::replace(&mut yielded, true) {
                return Poll::Ready(());
            }
            cx.waker().wake_by_ref();
            Poll::Pending
        })
        .await;
    }

    fn order_of(seed: u64) -> Vec<u32> {
        let mut stepper = Stepper::new(seed);
        let order = Rc::new(RefCell::new(Vec::new()));
        for name in 0..4 {
            let order = order.clone();
            stepper.spawn(async move {
                for _ in 0..3 {
                    order.borrow_mut().push(name);
                    yield_now().await;
                }
            });
        }
        stepper.run_until_idle();
        assert_eq!(stepper.tasks(), []);
        order.take()
    }

    #[test]
    fn a_seed_repeats_its_order_and_seeds_differ() {
        assert_eq!(order_of(1), order_of(1));
        assert!((2..20).any(|seed| order_of(seed) != order_of(1)));
        assert_eq!(order_of(1).len(), 12);
    }

    #[test]
    fn a_sleeping_task_wakes_when_the_clock_moves_in_idle() {
        let clock = ManualClock::new();
        let mut stepper = Stepper::new(3);
        let ticks = Rc::new(Cell::new(0));
        let (task_clock, task_ticks) = (clock.clone(), ticks.clone());
        stepper.spawn(async move {
            for second in 1..=5 {
                task_clock.sleep_until(Duration::from_secs(second)).await;
                task_ticks.set(second);
            }
        });
        let at = stepper.block_on(
            async {
                clock.sleep_until(Duration::from_secs(3)).await;
                clock.monotonic()
            },
            || clock.advance_to_next(),
        );
        assert_eq!(at, Duration::from_secs(3));
        stepper.run_until_idle();
        assert_eq!(ticks.get(), 3);
    }

    #[test]
    #[should_panic(expected = "deadlock")]
    fn nobody_to_wake_is_a_deadlock() {
        Stepper::new(0).block_on(std::future::pending::<()>(), || false);
    }

    #[test]
    fn a_dropped_task_is_cancelled() {
        struct Guard(Rc<Cell<bool>>);
        impl Drop for Guard {
            fn drop(&mut self) {
                self.0.set(true);
            }
        }
        let mut stepper = Stepper::new(0);
        let dropped = Rc::new(Cell::new(false));
        let guard = Guard(dropped.clone());
        let task = stepper.spawn(async move {
            let _guard = guard;
            std::future::pending::<()>().await;
        });
        stepper.run_until_idle();
        assert!(!dropped.get() && !stepper.is_done(task));
        assert!(stepper.drop_task(task));
        assert!(dropped.get() && stepper.is_done(task));
        assert!(!stepper.drop_task(task));
    }

    #[test]
    fn a_waker_works_from_another_thread() {
        let waker = Arc::new(Mutex::new(None::<Waker>));
        let mut stepper = Stepper::new(0);
        let seen = waker.clone();
        let mut polls = 0;
        let future = poll_fn(move |cx| {
            polls += 1;
            *seen.lock() = Some(cx.waker().clone());
            if polls == 2 { Poll::Ready(polls) } else { Poll::Pending }
        });
        let polls = stepper.block_on(future, || {
            let waker = waker.lock().take().expect("the future was polled");
            std::thread::spawn(move || waker.wake()).join().expect("waking does not panic");
            true
        });
        assert_eq!(polls, 2);
    }
}

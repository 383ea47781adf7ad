//! Several futures at once, few at a time.

use std::{future::poll_fn, task::Poll};

/// Runs `futures` on this task, at most `at_once_max` (0 is taken as 1) of them under way at any moment, and gives
/// their answers in order.
///
/// # Cancel safety
/// Dropping it drops those under way; the others were never begun.
pub async fn join_bounded<F: Future>(futures: Vec<F>, at_once_max: usize) -> Vec<F::Output> {
    let mut answers: Vec<Option<F::Output>> = Vec::new();
    answers.resize_with(futures.len(), || None);
    let mut waiting = futures.into_iter().enumerate();
    let mut running = Vec::new();
    poll_fn(|context| {
        loop {
            while running.len() < at_once_max.max(1) {
                let Some((index, future)) = waiting.next() else { break };
                running.push((index, Box::pin(future)));
            }
            if running.is_empty() {
                return Poll::Ready(());
            }
            let before = running.len();
            running.retain_mut(|(index, future)| match future.as_mut().poll(context) {
                Poll::Ready(answer) => {
                    answers[*index] = Some(answer);
                    false
                }
                Poll::Pending => true,
            });
            if running.len() == before {
                return Poll::Pending;
            }
        }
    })
    .await;
    answers.into_iter().flatten().collect()
}

/// Does `work` to its end, also when this future is dropped, as far as a tokio runtime runs here; `None` when that ended first.
///
/// # Panics
/// When `work` does.
pub async fn undisturbed<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> Option<T> {
    let Ok(runtime) = tokio::runtime::Handle::try_current() else { return Some(work.await) };
    match runtime.spawn(work).await {
        Ok(done) => Some(done),
        Err(failed) => failed.try_into_panic().map_or(None, |panic| std::panic::resume_unwind(panic)),
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test]
    async fn answers_come_in_order_and_no_more_than_the_bound_are_under_way() {
        let (running, most) = (Cell::new(0_usize), Cell::new(0));
        let futures = (0..20)
            .map(|number| {
                let (running, most) = (&running, &most);
                async move {
                    running.set(running.get() + 1);
                    most.set(most.get().max(running.get()));
                    for _ in 0..number % 5 {
                        tokio::task::yield_now().await;
                    }
                    running.set(running.get() - 1);
                    number
                }
            })
            .collect();
        assert_eq!(join_bounded(futures, 3).await, (0..20).collect::<Vec<_>>());
        assert_eq!(most.get(), 3);
    }
}

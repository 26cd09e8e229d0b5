//! Who is next: requests take turns, so that one with many prompts does not keep out the others.

use std::collections::VecDeque;
use std::sync::Arc;

use super::order::{Client, Job, Order};

/// So often others go first while the next one waits for room.
const MAX_PASSED: u32 = 16;

/// Jobs that have not begun.
#[derive(Debug, Default)]
pub(super) struct Queue(VecDeque<Order>);

impl Queue {
    pub(super) fn push(&mut self, order: Order) {
        if !order.jobs.is_empty() {
            self.0.push_back(order);
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The next job that `fits`: what is larger than the room that there is does not keep out the
    /// smaller ones behind it, but only so many go first.
    pub(super) fn pop(&mut self, fits: impl Fn(&Job) -> bool) -> Option<(Arc<Client>, Job)> {
        let next = self.0.iter().position(|order| order.jobs.last().is_some_and(&fits))?;
        if next > 0 {
            let front = self.0.front_mut()?;
            if front.n_passed >= MAX_PASSED {
                return None;
            }
            front.n_passed += 1;
        }
        let mut order = self.0.remove(next)?;
        let job = order.jobs.pop()?;
        (order.has_begun, order.n_passed) = (true, 0);
        let client = order.client.clone();
        self.push(order);
        Some((client, job))
    }

    /// Takes out the requests that `leaves` names.
    pub(super) fn take(&mut self, leaves: impl FnMut(&Order) -> bool) -> Vec<Order> {
        let (gone, stay) = self.0.drain(..).partition(leaves);
        let gone: VecDeque<Order> = gone;
        self.0 = stay;
        gone.into()
    }
}

#[cfg(test)]
mod tests {
    use super::super::order::{PassWatch, Task};
    use super::*;

    #[test]
    fn requests_take_turns_and_few_overtake() {
        let watch = Arc::new(PassWatch::default());
        let mut queue = Queue::default();
        let mut tickets = Vec::new();
        for prompts in [&[1usize, 2, 3][..], &[4], &[5, 6]] {
            let jobs =
                prompts.iter().map(|&index| Job { index, tokens: vec![1], task: Task::Embed });
            let (order, ticket) = Order::new(jobs.collect(), None, &watch);
            queue.push(order);
            tickets.push(ticket);
        }
        assert!(queue.pop(|_| false).is_none());
        let small = queue.pop(|job| job.index != 1).map(|(_, job)| job.index);
        assert_eq!(small, Some(4), "the first one waits for room, and another has it");
        let order: Vec<usize> =
            std::iter::from_fn(|| queue.pop(|_| true)).map(|(_, job)| job.index).collect();
        assert_eq!(order, [1, 5, 2, 6, 3]);
        assert!(queue.is_empty());
        let jobs = |n: usize, index| {
            (0..n).map(|_| Job { index, tokens: vec![1], task: Task::Embed }).collect()
        };
        queue.push(Order::new(jobs(1, 0), None, &watch).0);
        queue.push(Order::new(jobs(100, 1), None, &watch).0);
        let passed = std::iter::from_fn(|| queue.pop(|job| job.index == 1)).count();
        assert_eq!(passed, MAX_PASSED as usize, "then the first one is next");
    }
}

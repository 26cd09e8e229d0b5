//! Who is next: requests take turns, so that one with many prompts does not keep out the others.

use std::collections::VecDeque;
use std::sync::Arc;

use super::order::{Client, Job, Order};

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

    /// The next job, unless `fits` says that there is no room for it: then nobody overtakes it.
    pub(super) fn pop(&mut self, fits: impl FnOnce(&Job) -> bool) -> Option<(Arc<Client>, Job)> {
        let front = self.0.front_mut()?;
        if !front.jobs.last().is_some_and(fits) {
            return None;
        }
        let mut order = self.0.pop_front()?;
        let job = order.jobs.pop()?;
        let client = order.client.clone();
        self.push(order);
        Some((client, job))
    }

    /// Takes out the requests that `leaves` names.
    pub(super) fn take(&mut self, mut leaves: impl FnMut(&Client) -> bool) -> Vec<Order> {
        let (gone, stay) = self.0.drain(..).partition(|order| leaves(&order.client));
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
    fn requests_take_turns_and_nobody_is_overtaken() {
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
        assert!(queue.pop(|job| job.index != 1).is_none(), "the first one waits for room");
        let order: Vec<usize> =
            std::iter::from_fn(|| queue.pop(|_| true)).map(|(_, job)| job.index).collect();
        assert_eq!(order, [1, 4, 5, 2, 6, 3]);
        assert!(queue.is_empty());
    }
}

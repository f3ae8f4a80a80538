//! Runs work that may cause more of its kind on the same stack, one after the other.

use std::cell::RefCell;
use std::collections::VecDeque;

type Work = Box<dyn FnOnce()>;

thread_local! {
    static QUEUE: RefCell<Option<VecDeque<Work>>> = const { RefCell::new(None) };
}

struct Outermost;

impl Drop for Outermost {
    fn drop(&mut self) {
        QUEUE.with_borrow_mut(Option::take);
    }
}

/// Runs `work`; when called from within other such work on this thread, runs it after that has
/// returned instead. An environment that ends a phase inside `begin` therefore does not deepen
/// the stack with each waiter that it serves.
pub(crate) fn run(work: impl FnOnce() + 'static) {
    let nested = QUEUE.with_borrow_mut(|queue| match queue {
        Some(_) => true,
        None => {
            *queue = Some(VecDeque::new());
            false
        }
    });
    if nested {
        QUEUE.with_borrow_mut(|queue| {
            queue.get_or_insert_default().push_back(Box::new(work));
        });
        return;
    }
    let _outermost = Outermost;
    work();
    while let Some(next) =
        QUEUE.with_borrow_mut(|queue| queue.as_mut().and_then(VecDeque::pop_front))
    {
        next();
    }
}

//! What is to happen, in the order of a virtual clock; what falls on the same millisecond happens in the order in which it
//! was put down.

use std::collections::BTreeMap;

use super::watch::Stream;

/// Names an operator process of the history.
pub(super) type Process = usize;

#[derive(Clone, Debug)]
pub(super) enum Happening {
    /// A virtual second is over: requests are sent, and looked at.
    Second,
    /// A request of an operator reaches the API server.
    Arrives {
        process: Process,
        request: u64,
    },
    /// Its answer, or what stands for one, reaches the operator.
    Answers {
        process: Process,
        request: u64,
    },
    /// A watch has something to say.
    Watched {
        process: Process,
        stream: Stream,
    },
    /// An operator does what is due.
    Runs {
        process: Process,
    },
    /// Prometheus answers.
    Judged {
        process: Process,
        question: u64,
    },
    /// Proxies tell an operator of a second.
    Reported {
        process: Process,
    },
    /// A hook answers, or does not.
    Called {
        process: Process,
        call: u64,
    },
    /// The controllers of Kubernetes look at what has changed.
    Controllers,
    Pod {
        uid: String,
        turn: Turn,
    },
    /// A proxy takes what it was sent.
    Hears {
        proxy: usize,
        link: u64,
    },
    /// What a proxy says of it reaches the operator.
    Acknowledges {
        proxy: usize,
        link: u64,
    },
    /// A proxy without a stream tries again.
    Connects {
        proxy: usize,
    },
    Person,
    /// Somebody acts just when a release gets on.
    Timely,
    Mishap,
    Mends {
        mishap: u64,
    },
    /// A new operator starts.
    Starts,
    /// One that was replaced ends.
    Ends {
        process: Process,
    },
    /// In a world that is calm, somebody sees that a release does not get on.
    Late,
    /// No more people, and no more mishaps.
    Calm,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Ready,
    Ends,
}

#[derive(Debug, Default)]
pub(super) struct Agenda {
    /// Milliseconds since the history began.
    pub(super) now: i64,
    count: u64,
    queue: BTreeMap<(i64, u64), Happening>,
}

impl Agenda {
    pub(super) fn put(&mut self, delay: i64, happening: Happening) {
        self.count += 1;
        self.queue
            .insert((self.now + delay.max(0), self.count), happening);
    }

    pub(super) fn next(&mut self) -> Option<Happening> {
        let ((at, _), happening) = self.queue.pop_first()?;
        self.now = at;
        Some(happening)
    }
}

//! Arrivals on their way to the machine. In: what one body, message or file says has arrived. Out: what became of all of it, once it is certain.

use tokio::sync::{mpsc, oneshot};

use crate::tasks::{effect::Answer, facts::Key, trigger::arrival::Arrival};

/// Something arrived, and its sender waits for what becomes of it.
#[derive(Debug)]
pub struct Arriving {
    /// What.
    pub arrival: Arrival,
    /// Told once.
    pub answer: oneshot::Sender<Answer>,
}

/// What became of arrivals that came together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// The runs that were made.
    pub runs: Vec<Key>,
    /// Arrivals whose runs were there.
    pub duplicates: u32,
    /// Arrivals that no task wants.
    pub unwanted: u32,
    /// Why no run can be made of the others.
    pub refused: Vec<String>,
}

/// All go in before the first answer is awaited. `Err` says why they have to be sent again.
pub async fn settle(to: &mpsc::Sender<Arriving>, arrivals: Vec<Arrival>) -> Result<Settled, String> {
    const ENDING: &str = "this process is ending";
    let mut asked = Vec::with_capacity(arrivals.len());
    for arrival in arrivals {
        let (answer, answered) = oneshot::channel();
        to.send(Arriving { arrival, answer }).await.map_err(|_| ENDING.to_owned())?;
        asked.push(answered);
    }
    let mut settled = Settled::default();
    for answered in asked {
        match answered.await.map_err(|_| ENDING.to_owned())? {
            Answer::Accepted(keys) => settled.runs.extend(keys),
            Answer::Duplicate => settled.duplicates += 1,
            Answer::Unwanted => settled.unwanted += 1,
            Answer::Refused(why) => settled.refused.push(why),
            Answer::Again(why) => return Err(why),
        }
    }
    Ok(settled)
}

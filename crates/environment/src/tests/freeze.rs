#![allow(clippy::unwrap_used)]
use super::fixture::*;
use lambfold_sandbox::ExitStatus;

fn deeds(lab: &Lab) -> Vec<String> {
    lab.world.deeds.lock().unwrap().clone()
}

#[tokio::test(start_paused = true)]
async fn an_idle_environment_is_frozen_within_ten_milliseconds_and_thawed_for_an_event() {
    let lab = Lab::new(|_, guest| echo(guest));
    let environment = lab.launch().await;
    settle().await;
    advance_ms(3).await;
    settle().await;
    assert_eq!(deeds(&lab), [""; 0], "the next event may be on its way");
    advance_ms(4).await;
    settle().await;
    assert_eq!(deeds(&lab), ["freeze"]);
    advance_ms(60_000).await;
    settle().await;
    assert_eq!(begin(&environment, "x").finish().await.payload, "x");
    assert_eq!(deeds(&lab), ["freeze", "thaw"]);
    settle().await;
    advance_ms(7).await;
    settle().await;
    assert_eq!(deeds(&lab), ["freeze", "thaw", "freeze"]);
}

#[tokio::test(start_paused = true)]
async fn a_busy_environment_is_never_frozen() {
    let lab = Lab::new(|_, mut guest| async move {
        loop {
            let next = guest.next().await;
            // Longer than an idle environment stays warm: it is not idle.
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            guest.respond(&next.id, b"").await;
        }
    });
    let environment = lab.launch().await;
    for _ in 0..50 {
        let pending = begin(&environment, "");
        settle().await;
        advance_ms(21).await;
        pending.finish().await;
        advance_ms(2).await;
        settle().await;
    }
    assert_eq!(deeds(&lab), [""; 0]);
}

#[tokio::test(start_paused = true)]
async fn what_is_frozen_can_be_retired() {
    let lab = Lab::new(|_, guest| echo(guest));
    let environment = lab.launch().await;
    settle().await;
    advance_ms(8).await;
    lab.until(|| deeds(&lab) == ["freeze"]).await;
    environment.retire();
    lab.until(|| *lab.world.destroyed.lock().unwrap()).await;
}

#[tokio::test(start_paused = true)]
async fn a_failed_init_is_not_frozen_and_neither_is_what_follows_from_it() {
    let lab = Lab::new(|number, guest| async move {
        if number == 1 {
            return ExitStatus::Code(1);
        }
        echo(guest).await
    });
    let environment = lab.launch().await;
    settle().await;
    advance_ms(20).await;
    settle().await;
    assert_eq!(deeds(&lab), ["kill"], "there is nothing to freeze");
    assert_eq!(begin(&environment, "x").finish().await.payload, "x");
    settle().await;
    advance_ms(8).await;
    settle().await;
    assert_eq!(deeds(&lab), ["kill", "freeze"]);
}

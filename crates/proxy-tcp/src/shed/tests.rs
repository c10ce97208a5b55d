use super::*;
use conn_tracker::{Hold, Rejection, RequestHold, RouteId};
use proxy_route::{RouteTable, Settings};
use std::collections::HashMap;

/// Refuses some clients, and is only asked whether it would.
#[derive(Debug, Default)]
struct Oracle(Mutex<HashMap<IpAddr, Reason>>);

impl Oracle {
    fn refuse(&self, client: IpAddr, reason: Option<Reason>) {
        match reason {
            Some(reason) => drop(self.0.lock().insert(client, reason)),
            None => drop(self.0.lock().remove(&client)),
        }
    }
}

impl ConnectionTracker for Oracle {
    fn open(&self, _: Instant, _: Arrival, _: &mut Hold) -> Result<(), Rejection> {
        unreachable!("nobody comes")
    }

    fn would_open(&self, _: Instant, arrival: Arrival) -> Result<(), Rejection> {
        assert!(!arrival.pending, "it is a client on any port");
        let Origin::Client(client) = arrival.origin else { panic!("{arrival:?}") };
        self.0.lock().get(&client).map_or(Ok(()), |reason| Err(Rejection::full(*reason, 1)))
    }

    fn identify(&self, _: Instant, _: &mut Hold, _: IpAddr) -> Result<(), Rejection> {
        unreachable!("nobody comes")
    }

    fn bind(&self, _: Instant, _: &mut Hold, _: RouteId) -> Result<(), Rejection> {
        unreachable!("nobody comes")
    }

    fn unbind(&self, _: &mut Hold, _: RouteId) {}

    fn close(&self, _: &mut Hold) {}

    fn begin(&self, _: Instant, _: Option<IpAddr>, _: RouteId, _: &mut RequestHold) -> Result<(), Rejection> {
        unreachable!("nobody comes")
    }

    fn finish(&self, _: &mut RequestHold) {}
}

#[derive(Debug, Default)]
struct Heard(Mutex<Vec<(&'static str, IpAddr)>>);

impl Report for Heard {
    fn event(&self, event: Event) {
        assert_eq!(event.kind, EventKind::Shed);
        self.0.lock().push((event.reason, event.source.unwrap()));
    }
}

struct World {
    shed: Arc<Shed>,
    oracle: Oracle,
    heard: Heard,
    generation: Generation,
    now: Instant,
}

fn generation(settings: Settings) -> Generation {
    Generation::new(settings, RouteTable::new([]).unwrap())
}

fn world(shed: ShedSettings) -> World {
    World {
        shed: Shed::new(),
        oracle: Oracle::default(),
        heard: Heard::default(),
        generation: generation(Settings { shed: Some(shed), ..Settings::default() }),
        now: Instant::now(),
    }
}

impl World {
    /// A client is refused `times` times at once.
    fn knock(&self, client: IpAddr, reason: Reason, times: usize) {
        self.oracle.refuse(client, Some(reason));
        (0..times).for_each(|_| self.shed.refused(self.now, &self.generation, client, reason));
    }

    /// One turn some milliseconds later; how many are shed then.
    fn turn(&mut self, millis: u64) -> usize {
        self.now += Duration::from_millis(millis);
        let next = self.shed.turn(self.now, &self.generation, &self.oracle, &self.heard);
        assert_eq!(next.is_some(), self.shed.clients() > 0);
        assert_eq!(self.shed.programs.borrow().clients, self.shed.clients());
        self.shed.clients()
    }
}

fn client(last: u8) -> IpAddr {
    IpAddr::from([192, 0, 2, last])
}

const SHED: ShedSettings =
    ShedSettings { after_refusals_per_second: 10, hold_for: Duration::from_secs(10), max_clients: 3 };

#[test]
fn a_change_is_followed_by_another_one_a_tenth_of_a_second_later_and_a_look_by_one_sooner() {
    let mut world = world(SHED);
    world.knock(client(1), Reason::ClientLimit, 11);
    let turn = |world: &World| world.shed.turn(world.now, &world.generation, &world.oracle, &world.heard);
    assert_eq!(turn(&world), Some(TURN), "it goes on the list");
    world.now += TURN;
    assert_eq!(turn(&world), Some(LOOK), "nothing has changed");
    world.oracle.refuse(client(1), None);
    world.now += LOOK;
    assert_eq!(turn(&world), None, "a slot is free, and soon taken note of");
}

#[test]
fn who_knocks_too_often_is_shed_until_a_slot_is_free() {
    let mut world = world(SHED);
    world.knock(client(1), Reason::ClientLimit, 10);
    assert_eq!(world.turn(0), 0, "as often as allowed");
    world.knock(client(1), Reason::ClientLimit, 1);
    world.knock(client(2), Reason::PendingLimit, 100);
    assert_eq!(world.turn(0), 1);
    assert_eq!(*world.heard.0.lock(), [("client_limit", client(1))]);
    assert_eq!(world.turn(100), 1);
    world.oracle.refuse(client(1), None);
    assert_eq!(world.turn(100), 0);
    world.knock(client(1), Reason::ClientLimit, 11);
    assert_eq!(world.turn(100), 1, "and again");
    assert_eq!(world.turn(10_000), 0, "for so long and no longer");
}

#[test]
fn nobody_is_shed_who_would_be_let_in_by_then() {
    let mut world = world(SHED);
    world.knock(client(1), Reason::ClientLimit, 11);
    world.oracle.refuse(client(1), None);
    world.knock(client(2), Reason::ClientRate, 11);
    world.oracle.refuse(client(2), None);
    assert_eq!(world.turn(0), 1, "but one who came too fast is");
    assert_eq!(*world.heard.0.lock(), [("client_rate", client(2))]);
}

#[test]
fn whoever_shares_a_key_with_a_spared_one_is_never_shed() {
    for spare in ["exempt", "proxies", "balancers", "nobody"] {
        let mut world = world(SHED);
        let networks = vec!["2001:db8::9/128".parse().unwrap()];
        let mut settings = world.generation.settings.clone();
        match spare {
            "exempt" => settings.exempt = networks,
            "proxies" => settings.accept_proxy.peers = networks,
            "balancers" => settings.trusted_proxies = networks,
            _ => {}
        }
        let sharing = "2001:db8::1".parse().unwrap();
        world.knock(sharing, Reason::ClientLimit, 11);
        // The key's first address is what the tracker is asked about.
        world.oracle.refuse("2001:db8::".parse().unwrap(), Some(Reason::ClientLimit));
        let before = std::mem::replace(&mut world.generation, generation(settings));
        let shed = usize::from(spare == "nobody");
        assert_eq!(world.turn(0), 1, "it knocked before the reload: {spare}");
        assert_eq!(world.turn(100), shed, "and is lifted by it: {spare}");
        world.knock(sharing, Reason::ClientLimit, 11);
        assert_eq!(world.turn(100), shed, "{spare}");
        drop(before);
    }
}

#[test]
fn there_is_room_for_so_many() {
    let mut world = world(SHED);
    for last in 0..5 {
        world.knock(client(last), Reason::ClientLimit, 11);
    }
    assert_eq!(world.turn(0), 3);
    assert_eq!(world.heard.0.lock().len(), 3);
    world.shed.does_not_fit(3, "");
    assert_eq!(world.turn(100), 1, "half of what the kernel refused");
    world.knock(client(4), Reason::ClientLimit, 11);
    assert_eq!(world.turn(100), 1);
    world.generation =
        generation(Settings { shed: Some(ShedSettings { max_clients: 2, ..SHED }), ..Settings::default() });
    world.knock(client(4), Reason::ClientLimit, 11);
    assert_eq!(world.turn(100), 2, "other settings are tried anew");
}

#[test]
fn without_settings_nobody_is_shed() {
    let mut world = world(SHED);
    world.knock(client(1), Reason::ClientLimit, 11);
    assert_eq!(world.turn(0), 1);
    world.generation = generation(Settings::default());
    assert_eq!(world.turn(100), 0);
    world.knock(client(1), Reason::ClientLimit, 100);
    assert_eq!(world.turn(100), 0);
}

#[tokio::test]
async fn another_worker_takes_over() {
    let world = Arc::new(world(ShedSettings { hold_for: Duration::from_secs(1_000_000), ..SHED }));
    let (newest, live) = watch::channel(Arc::new(generation(world.generation.settings.clone())));
    let keep = |world: Arc<World>, live| async move { world.shed.keep(&world.oracle, &world.heard, live).await };
    let [first, second] = [(), ()].map(|()| tokio::spawn(keep(Arc::clone(&world), Live::new(newest.subscribe()))));
    drop(live);
    let shed = |clients: usize| {
        let world = Arc::clone(&world);
        async move {
            while world.shed.clients() != clients {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
    };
    world.knock(client(1), Reason::ClientLimit, 11);
    tokio::time::timeout(Duration::from_secs(60), shed(1)).await.expect("one of them keeps the list");
    // Whichever it is that ends.
    first.abort();
    world.oracle.refuse(client(1), None);
    tokio::time::timeout(Duration::from_secs(60), shed(0)).await.expect("one is left");
    world.knock(client(2), Reason::ClientLimit, 11);
    tokio::time::timeout(Duration::from_secs(60), shed(1)).await.expect("one is woken");
    second.abort();
    assert!(second.await.unwrap_err().is_cancelled());
}

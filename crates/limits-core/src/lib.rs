//! Exact, memory-lean connection counting: clients, routes, rates and expiry, without a clock or a socket.

//! The API over HTTP on loopback, with a store and an exchange of the dev stack, and a launcher that only has logs.

mod access;
mod audit;
mod connections;
mod errors;
mod lists;
mod openapi;
mod rig;
mod routes;
mod starts;
mod stops;
mod streams;
mod tls;

#!/usr/bin/env python3
"""Checks the stand-in of the exchange with Binance clients that others wrote.

Usage: exchange-clients.py URL, where URL is what `cargo run -p streamforge-devstack --example exchange` prints.
Needs the packages python-binance and ccxt. Ends with 0 if both clients understand every answer, and raises if not.
"""

import sys
from decimal import Decimal

import ccxt
from binance.client import Client
from binance.exceptions import BinanceAPIException

SYMBOL = "BTCUSDT"
START = 1722470400000  # 2024-08-01T00:00Z
MINUTE = 60_000


def check(condition, message):
    if not condition:
        raise AssertionError(message)


def with_python_binance(url):
    """Pages through a range, checks shapes, and meets the exchange's errors."""
    client = Client(ping=False)
    client.API_URL = f"{url}/api"
    client.ping()
    check(client.get_server_time()["serverTime"] > START, "the server's time is in the past")

    info = client.get_symbol_info(SYMBOL)
    check((info["baseAsset"], info["quoteAsset"], info["status"]) == ("BTC", "USDT", "TRADING"), info)
    limits = {limit["rateLimitType"]: limit["limit"] for limit in client.get_exchange_info()["rateLimits"]}
    check(limits["REQUEST_WEIGHT"] == 6000, limits)

    # More than one page: the client follows the open times itself.
    minutes = client.get_historical_klines(SYMBOL, "1m", START, START + 2500 * MINUTE - 1)
    opens = [kline[0] for kline in minutes]
    check(opens == list(range(START, START + 2500 * MINUTE, MINUTE)), "the pages do not join")
    check(all(len(kline) == 12 and kline[6] == kline[0] + MINUTE - 1 for kline in minutes), "a kline is malformed")

    # An hour is made of its minutes, by this client's reading of the columns.
    hour = client.get_klines(symbol=SYMBOL, interval="1h", startTime=START, limit=1)[0]
    first = minutes[:60]
    check(hour[1] == first[0][1] and hour[4] == first[-1][4], "open or close of the hour")
    check(Decimal(hour[2]) == max(Decimal(kline[2]) for kline in first), "high of the hour")
    check(Decimal(hour[3]) == min(Decimal(kline[3]) for kline in first), "low of the hour")
    for column in (5, 7, 9, 10):
        check(Decimal(hour[column]) == sum(Decimal(kline[column]) for kline in first), f"column {column}")
    check(hour[8] == sum(kline[8] for kline in first), "trades of the hour")

    weight = int(client.response.headers["x-mbx-used-weight-1m"])
    check(weight > 0, "no weight is told")

    for parameters, code in (
        ({"symbol": "NOPE", "interval": "1m"}, -1121),
        ({"symbol": SYMBOL, "interval": "2m"}, -1120),
        ({"symbol": "btcusdt", "interval": "1m"}, -1100),
        ({"symbol": SYMBOL}, -1102),
        ({"symbol": SYMBOL, "interval": "1m", "start_time": 1}, -1104),
    ):
        try:
            client.get_klines(**parameters)
        except BinanceAPIException as error:
            check((error.status_code, error.code) == (400, code), f"{parameters}: {error}")
        else:
            raise AssertionError(f"{parameters} was not refused")


def with_ccxt(url):
    """Loads the markets, as every user of ccxt does first, and fetches candles."""
    exchange = ccxt.binance({"options": {"fetchMarkets": {"types": ["spot"]}, "fetchCurrencies": False}})
    exchange.urls["api"]["public"] = f"{url}/api/v3"
    markets = exchange.load_markets()
    check(markets["BTC/USDT"]["id"] == SYMBOL and markets["BTC/USDT"]["spot"], markets.get("BTC/USDT"))
    check(markets["BTC/USDT"]["precision"]["price"] == 0.01, markets["BTC/USDT"]["precision"])
    check(exchange.fetch_time() > START, "the server's time is in the past")
    for timeframe in ("1s", "1m", "1h", "1d", "1w", "1M"):
        candles = exchange.fetch_ohlcv("BTC/USDT", timeframe, since=START, limit=5)
        check(len(candles) == 5, f"{timeframe}: {len(candles)} candles")
        for _, opened, high, low, closed, volume in candles:
            check(0 < low <= min(opened, closed) <= max(opened, closed) <= high and volume >= 0, timeframe)
    try:
        exchange.public_get_klines({"symbol": "NOPE", "interval": "1m"})
    except ccxt.BadSymbol:
        pass
    else:
        raise AssertionError("an unknown symbol was not refused")


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    url = sys.argv[1].rstrip("/")
    with_python_binance(url)
    print(f"python-binance understands {url}")
    with_ccxt(url)
    print(f"ccxt {ccxt.__version__} understands {url}")


if __name__ == "__main__":
    main()

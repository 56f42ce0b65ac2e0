"""What GPU-hours and core-hours cost, at the prices of the config: pure."""

from typing import Any

from raysweep.config.budget_settings import PricesConfig


def gpu_price(prices: PricesConfig, device: str) -> float | None:
    """Of an hour of one GPU of this kind; None where no price is given."""
    for kind, price in prices.gpu_types.items():
        if kind.lower() in device.lower():
            return price
    return prices.gpu_hour


def price_of(prices: PricesConfig, device: str, *, gpu_hours: float, core_hours: float) -> dict[str, Any] | None:
    """Amount and currency; None where no price is given for what is used."""
    price, hours = (prices.core_hour, core_hours) if device == "cpu" else (gpu_price(prices, device), gpu_hours)
    if price is None:
        return None
    return {"amount": round(price * hours, 4), "currency": prices.currency}

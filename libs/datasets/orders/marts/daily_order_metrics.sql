-- one row per day (UTC) on which an order was placed
SELECT
    order_date,
    total_orders,
    total_amount,
    -- whole cents, for a division of decimals is a floating-point one
    CAST((2 * total_cents + total_orders) // (2 * total_orders) AS DECIMAL(18, 0)) * 0.01 AS avg_amount,
    last_refreshed_at
FROM (
    SELECT
        order_date,
        count(*) AS total_orders,
        sum(amount) AS total_amount,
        CAST(sum(amount) * 100 AS HUGEINT) AS total_cents,
        max(event_time) AS last_refreshed_at
    FROM staging.orders
    GROUP BY order_date
)
ORDER BY order_date

-- one row per landed order event; the platform keeps the newest version of each order
SELECT
    landed.*,
    CAST(timezone('UTC', landed.order_created_at) AS DATE) AS order_date
FROM landed

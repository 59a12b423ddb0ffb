-- one row per day and currency
SELECT
    paid_on,
    currency,
    count(*) AS payments,
    count(*) FILTER (WHERE settled) AS settled_payments,
    sum(amount) AS total_amount,
    sum(net_amount) AS total_net
FROM staging.payments
GROUP BY paid_on, currency
ORDER BY paid_on, currency

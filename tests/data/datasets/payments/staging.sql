-- one row per landed payment event
SELECT landed.*, landed.amount - landed.fee AS net_amount
FROM landed
